#include "train/read_examples.h"

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "data/mix.h"

namespace serval {
namespace {

DataCache cache_of(bool kept, const std::string& directory, int64_t limit) {
  if (!kept) return DataCache({.limit = limit});
  return DataCache({.directory = directory.empty() ? default_cache_directory() : directory, .limit = limit});
}

void check_ids(const PreparedData& data, int64_t vocab_size) {
  const int32_t worst = data.smallest_id < 0 ? data.smallest_id : data.largest_id;
  if (vocab_size > 0 && (worst < 0 || worst >= vocab_size))
    fail(
        "the tokenizer gives the id {}, but the model's vocabulary has {} entries; they do not belong "
        "together",
        worst, vocab_size);
}

// All of them, or shares of them.
Examples mixed(const std::vector<DatasetSource>& sources, const std::vector<Examples>& datasets,
               const DatasetReadOptions& options, const std::string& what) {
  std::vector<int64_t> sizes;
  std::vector<double> weights;
  for (size_t i = 0; i < sources.size(); ++i) {
    sizes.push_back(datasets[i].size());
    weights.push_back(sources[i].weight.value_or(1));
  }
  const MixStrategy strategy = mix_strategy_from_name(options.mix_strategy);
  const std::vector<int64_t> counts = mix_counts(sizes, weights, strategy);
  Examples all;
  for (size_t i = 0; i < sources.size(); ++i) {
    all.append_draws(datasets[i], counts[i], philox_key(options.seed, "mix", static_cast<uint32_t>(i), 0));
    if (strategy != MixStrategy::concat)
      log_info("{} {}: {} of its {} examples are in the mix", what, display_name(sources[i]), counts[i],
               sizes[i]);
  }
  return all;
}

}  // namespace

DatasetReadOptions read_options_of(const TrainConfig& c) {
  DatasetReadOptions options;
  if (!c.dataset_text_field.empty()) options.shape.text_field = c.dataset_text_field;
  if (!c.dataset_format.empty()) options.shape.format = c.dataset_format;
  options.shape.columns = c.dataset_columns;
  options.merge = {.prompt = c.merged_prompt,
                   .output_column = c.output_column_name,
                   .conversation_extension = c.conversation_extension,
                   .seed = static_cast<uint64_t>(c.data_seed)};
  options.examples.max_length = c.max_length;
  if (!c.truncation_mode.empty()) options.examples.truncation = truncation_from_name(c.truncation_mode);
  options.examples.mask = {.assistant_only_loss = c.assistant_only_loss,
                           .completion_only_loss = c.completion_only_loss,
                           .train_on_roles = c.train_on_roles,
                           .train_on_inputs = c.train_on_inputs,
                           .ends = turn_ends_from_name(c.train_on_eos),
                           .eot_tokens = c.eot_tokens,
                           .last_turn_only = c.last_turn_only,
                           .instruction_part = c.instruction_part,
                           .response_part = c.response_part,
                           .prompt_loss_weight = c.prompt_loss_weight};
  if (c.packing && c.packing_strategy == "bfd_split") options.examples.pieces = Pieces::split;
  if (c.packing && c.packing_strategy == "wrapped") options.examples.pieces = Pieces::wrapped;
  options.cache = data_cache(c);
  if (!c.mix_strategy.empty()) options.mix_strategy = c.mix_strategy;
  options.seed = static_cast<uint64_t>(c.data_seed);
  return options;
}

ShapeOptions shape_options_of(const DatasetReadOptions& options, bool has_chat_template) {
  ShapeOptions shape = options.shape;
  shape.has_chat_template = has_chat_template;
  return shape;
}

DataCache data_cache(const Settings& settings) {
  return cache_of(settings.flag("dataset_cache"), settings.text_or("dataset_cache_dir", ""),
                  settings.integer("dataset_cache_limit"));
}

DataCache data_cache(const TrainConfig& config) {
  return cache_of(config.dataset_cache, config.dataset_cache_dir, config.dataset_cache_limit);
}

Examples read_examples(const std::vector<DatasetSource>& sources, const DatasetReadOptions& options,
                       const Tokenizer& tokenizer, const ChatTemplate* chat_template, int64_t vocab_size,
                       const std::string& what) {
  const ShapeOptions shape = shape_options_of(options, chat_template != nullptr);
  std::vector<Examples> datasets;
  std::vector<std::string> names;
  for (const DatasetSource& source : sources) {
    const PreparedData data = prepare_dataset(source, {.tokenizer = tokenizer,
                                                       .chat_template = chat_template,
                                                       .fingerprint = options.fingerprint,
                                                       .shape = shape,
                                                       .merge = options.merge,
                                                       .examples = options.examples,
                                                       .cache = options.cache});
    names.push_back(display_name(source));
    log_info("{} {}: {}", what, names.back(), data.explanation);
    for (const auto& note : data.notes) warn("{}", note);
    log_info("{} {}: {}{}", what, names.back(), data.statistics.text(),
             data.from_cache ? "; tokenised before, from the cache" : "");
    check_ids(data, vocab_size);
    datasets.push_back(data.examples);
  }
  Examples all = mixed(sources, datasets, options, what);
  if (all.num_labels() == 0) fail("{}: no token is trained; look at --preview 3", join(names, ", "));
  return all;
}

}  // namespace serval
