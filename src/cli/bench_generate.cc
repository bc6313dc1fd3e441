#include "generate/bench_generate.h"

#include "base/error.h"
#include "base/text.h"
#include "cli/bench_target.h"
#include "cli/cli.h"

namespace serval {
namespace {

Json result_json(const BenchTarget& target, const BenchModel& model, const GenerateBench& bench,
                 const GenerateBenchResult& r) {
  Json json = bench_head_json(target, "generate");
  json.set("shape", Json(model.name));
  json.set("dtype", Json(name_of(bench.dtype)));
  json.set("parameters", Json(r.parameters));
  json.set("batch_size", Json(bench.batch_size));
  json.set("prompt_length", Json(bench.prompt_length));
  json.set("max_new_tokens", Json(bench.max_new_tokens));
  json.set("graphs", Json(bench.graphs && target.gpu()));
  json.set("tokens_per_second", Json(r.tokens_per_second));
  json.set("step_seconds", Json(r.step_seconds));
  json.set("prompt_tokens_per_second", Json(r.prompt_tokens_per_second));
  json.set("weights_seconds", Json(r.weights_seconds));
  json.set("first_token_seconds", Json(r.first_token_seconds));
  json.set("weight_bytes", Json(r.weight_bytes));
  json.set("copy_bytes_per_second", Json(r.copy_rate));
  json.set("share_of_copy_rate", Json(r.share_of_copy_rate()));
  json.set("peak_bytes", Json(r.arena_bytes + r.state_bytes));
  json.set("arena_bytes", Json(r.arena_bytes));
  json.set("state_bytes", Json(r.state_bytes));
  json.set("device_bytes", Json(r.device_bytes));
  json.set("ops", ops_json(r.ops));
  return json;
}

std::string result_text(const BenchTarget& target, const BenchModel& model, const GenerateBench& bench,
                        const GenerateBenchResult& r) {
  std::string text = fmt::format(
      "{}: {} parameters, {}\n{}\n{} sequences at a time: {} tokens of prompt and {} new ones each\n\n",
      model.name, human_count(static_cast<double>(r.parameters)), name_of(bench.dtype), target.device_name(),
      bench.batch_size, bench.prompt_length, bench.max_new_tokens);
  text += fmt::format("speed     {:.1f} new tokens/s, {:.4g} ms a step; prompts {:.0f} tokens/s\n",
                      r.tokens_per_second, 1e3 * r.step_seconds, r.prompt_tokens_per_second);
  text += fmt::format(
      "weights   {} a step; at {:.0f} GB/s, the speed of copies measured afterwards, they take {:.1f} % of "
      "it\n",
      human_bytes(r.weight_bytes), r.copy_rate / 1e9, 100 * r.share_of_copy_rate());
  text += fmt::format("start     {:.2f} s to the first tokens, {:.2f} s of it random weights\n",
                      r.first_token_seconds, r.weights_seconds);
  text += memory_line(target, r.state_bytes, r.arena_bytes, r.device_bytes, r.device_bytes);
  return r.ops.empty() ? text : text + op_table(r.ops, "one step");
}

}  // namespace

int bench_generate_target(const BenchTarget& target) {
  const Settings& s = target.settings;
  const BenchModel model = bench_model(s, "qwen3-8b");
  GenerateBench bench{.model = model.config, .dtype = target.dtype()};
  bench.batch_size = target.number("per_device_train_batch_size", 32, 1);
  bench.prompt_length = s.integer("prompt_length");
  bench.max_new_tokens = s.integer("max_new_tokens");
  bench.graphs = s.flag("graphs");
  bench.op_times = s.flag("op_times");
  bench.start = target.start;
  const GenerateBenchResult result = bench_generate(bench, target.device);
  print_result(s.flag("json") ? result_json(target, model, bench, result).dump() + "\n"
                              : result_text(target, model, bench, result));
  return 0;
}

}  // namespace serval
