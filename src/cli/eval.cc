#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parallel.h"
#include "cli/cli.h"
#include "train/evaluation.h"
#include "train/read_examples.h"
#include "train/text_tools.h"

namespace serval {

int run_eval(const Arguments& arguments) {
  const Settings& s = arguments.settings;
  set_num_threads(static_cast<int>(s.integer_or("num_threads", 0)));
  const Pretrained model = Pretrained::open({.model = s.text("model"),
                                             .adapter = s.text_or("adapter", ""),
                                             .dtype = s.text("dtype"),
                                             .ignored_config_keys = s.texts("ignore_config_key")});
  const TextTools tools =
      open_text_tools({.tokenizer = tokenizer_path(s.text_or("tokenizer_name_or_path", ""), model.directory(),
                                                   s.text_or("adapter", "")),
                       .chat_template = s.text_or("chat_template", ""),
                       .adapter = s.text_or("adapter", "")});
  DatasetReadOptions read = read_options_of(partial_config(s));
  read.cache = data_cache(s);
  read.fingerprint = tools.fingerprint;
  std::vector<DatasetSource> sources = dataset_sources(s.value("dataset"));
  for (DatasetSource& source : sources) source.held_out = true;
  const Examples examples =
      read_examples(sources, read, tools.tokenizer, tools.chat(), model.config().vocab_size, "dataset");
  EvaluationBatches batches(examples, s.integer("per_device_eval_batch_size"));
  const auto device = make_device(s.text("device"));
  Evaluator evaluator(model, batches.capacity(), *device);
  evaluator.executor().set_check_nan(s.flag("check_nan"));
  while (const auto batch = batches.next()) evaluator.add(*batch);
  const double nll = evaluator.mean_nll();
  if (!std::isfinite(nll)) fail("the mean NLL is {}; --check-nan names the op where it began", nll);
  if (s.flag("json")) {
    Json json = Json::object();
    json.set("mean_nll", Json(nll));
    json.set("perplexity", Json(std::exp(nll)));
    json.set("accuracy", Json(evaluator.accuracy()));
    json.set("tokens", Json(evaluator.labels()));
    json.set("examples", Json(examples.size()));
    print_result(json.dump() + "\n");
  } else {
    print_result(
        fmt::format("mean NLL {:.6f}  perplexity {:.4f}  accuracy {:.2f} %  over {} tokens of {} examples\n",
                    nll, std::exp(nll), 100 * evaluator.accuracy(), evaluator.labels(), examples.size()));
  }
  return 0;
}

}  // namespace serval
