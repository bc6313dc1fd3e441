// Rows that are text or token ids: no conversation, or one that the row splits in two itself.
#include <limits>

#include "base/error.h"
#include "data/shapes/columns.h"
#include "data/shapes/messages.h"
#include "data/shapes/shape_family.h"

namespace serval {
namespace {

bool never_chat(const Json&, bool) {
  return false;
}

// --- text ---

TrainingRow read_text(const Json& row, const DatasetShape& shape, const std::string& where) {
  TrainingRow result;
  result.body = TextRow{text_column(row, shape.text_field, where)};
  return result;
}

// --- prompt + completion ---

bool prompt_is_messages(const Json& row, bool) {
  return is_messages(row.at("prompt")) || (row.contains("completion") && is_messages(row.at("completion")));
}

TrainingRow read_prompt_completion(const Json& row, const DatasetShape& shape, const std::string& where) {
  TrainingRow result;
  PromptCompletionRow pair;
  if (shape.chat) {
    pair.prompt.messages = messages_or_text(row, "prompt", "user", shape, where);
    add_system_message(row, pair.prompt.messages, where);
    pair.completion.messages = messages_or_text(row, "completion", "assistant", shape, where);
    result.context = context_of_row(row, where);
  } else {
    pair.prompt.text = text_column(row, "prompt", where);
    pair.completion.text = text_column(row, "completion", where);
  }
  result.body = std::move(pair);
  return result;
}

// --- segments: Axolotl's template-free format ---

TrainingRow read_segments(const Json& row, const DatasetShape&, const std::string& where) {
  SegmentsRow result;
  for (const Json& segment : list_column(row, "segments", where)) {
    if (!segment.is_object())
      fail("{}: a segment must be an object with text and label but is {}", where, segment.type_name());
    result.segments.push_back({text_column(segment, "text", where),
                               flag_value(column_of(segment, "label", where), "label", where)});
  }
  TrainingRow training;
  training.body = std::move(result);
  return training;
}

// --- token ids ---

std::vector<bool> mask_column(const Json& row, const char* column, size_t size, const std::string& where) {
  std::vector<bool> mask;
  for (const Json& value : list_column(row, column, where)) mask.push_back(flag_value(value, column, where));
  if (mask.size() != size)
    fail("{}: '{}' has {} entries but 'input_ids' has {}", where, column, mask.size(), size);
  return mask;
}

// Some files write labels one place early, each beside the token that it follows: then the last label is one
// more token.
bool labels_are_shifted(const Json::Array& ids, const Json::Array& labels) {
  bool any = false;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    if (labels[i] == Json(-100)) continue;
    if (labels[i] != ids[i + 1]) return false;
    any = any || labels[i] != ids[i];
  }
  return any;
}

Json shifted_back(const Json& row, const Json::Array& ids, const Json::Array& labels) {
  Json::Array all_ids = ids, all_labels = {Json(-100)};
  all_labels.insert(all_labels.end(), labels.begin(), labels.end());
  if (labels.back() == Json(-100))
    all_labels.pop_back();
  else
    all_ids.push_back(labels.back());
  Json result = Json::object();
  for (const auto& [name, value] : row.as_object())
    result.set(name, name == "input_ids" ? Json(all_ids) : name == "labels" ? Json(all_labels) : value);
  return result;
}

TrainingRow read_tokenised(const Json& row, const DatasetShape& shape, const std::string& where) {
  const Json::Array& ids = list_column(row, "input_ids", where);
  const bool has_masks = has_column(row, "attention_mask") || has_column(row, "assistant_masks") ||
                         has_column(row, "completion_mask");
  if (const Json* labels = row.find("labels"); labels != nullptr && labels->is_array() && !has_masks &&
                                               labels->size() == ids.size() &&
                                               labels_are_shifted(ids, labels->as_array()))
    return read_tokenised(shifted_back(row, ids, labels->as_array()), shape, where);
  const auto integer = [&](const Json& value, const char* column) {
    if (!value.is_int() || value.as_int() < -100 || value.as_int() > std::numeric_limits<int32_t>::max())
      fail("{}: '{}' must hold token ids but holds {}", where, column,
           value.is_number() ? value.dump() : value.type_name());
    return static_cast<int32_t>(value.as_int());
  };
  std::vector<bool> trained(ids.size(), true), kept(ids.size(), true), completion;
  if (has_column(row, "labels")) {
    const Json::Array& labels = list_column(row, "labels", where);
    if (labels.size() != ids.size())
      fail("{}: 'labels' has {} entries but 'input_ids' has {}", where, labels.size(), ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      const int32_t label = integer(labels[i], "labels");
      trained[i] = label != -100;
      if (trained[i] && labels[i] != ids[i])
        fail(
            "{}: label {} of token {} is neither -100 nor its id {}; labels repeat the ids, in place or "
            "all one place early",
            where, label, i, ids[i].dump());
    }
  }
  if (has_column(row, "assistant_masks")) {
    const auto mask = mask_column(row, "assistant_masks", ids.size(), where);
    for (size_t i = 0; i < mask.size(); ++i) trained[i] = trained[i] && mask[i];
  }
  if (has_column(row, "attention_mask")) kept = mask_column(row, "attention_mask", ids.size(), where);
  const bool has_completion = has_column(row, "completion_mask");
  if (has_completion) completion = mask_column(row, "completion_mask", ids.size(), where);
  TokenisedRow result;
  result.has_completion_mask = has_completion;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!kept[i]) continue;
    const int32_t id = integer(ids[i], "input_ids");
    if (id < 0) fail("{}: 'input_ids' holds the id {}", where, id);
    result.ids.push_back(id);
    result.trained.push_back(trained[i]);
    if (has_completion) result.completion.push_back(completion[i]);
  }
  TrainingRow training;
  training.body = std::move(result);
  return training;
}

}  // namespace

const ShapeFamily kTextShape = {
    .name = "text",
    .aliases = {"completion", "pretrain", "pretraining", "plain", "raw"},
    .columns = "text (or the column that dataset_text_field names)",
    .kind = RowKind::text,
    .rank = 5,
    .matches = [](const Json& row) { return row.contains("text"); },
    .is_chat = never_chat,
    .meaning = [](const Json&,
                  const DatasetShape& s) { return fmt::format("plain text (column {})", s.text_field); },
    .used = [](const Json&, const DatasetShape& s) { return std::vector<std::string>{s.text_field}; },
    .read = read_text};

const ShapeFamily kPromptCompletionShape = {
    .name = "prompt_completion",
    .aliases = {"prompt-completion", "completions"},
    .columns = "prompt + completion",
    .kind = RowKind::prompt_completion,
    .rank = 3,
    .matches = [](const Json& row) { return row.contains("prompt") && row.contains("completion"); },
    .is_chat = prompt_is_messages,
    .meaning =
        [](const Json&, const DatasetShape& s) {
          return std::string(s.chat ? "prompts and completions as messages"
                                    : "prompts and completions as plain text");
        },
    .used =
        [](const Json&, const DatasetShape& s) {
          std::vector<std::string> used = {"prompt", "completion"};
          if (!s.chat) return used;
          used.insert(used.end(), {"system", "system_prompt"});
          used.insert(used.end(), std::begin(kContextColumns), std::end(kContextColumns));
          return used;
        },
    .read = read_prompt_completion};

const ShapeFamily kSegmentsShape = {
    .name = "segments",
    .aliases = {"input_output", "template_free"},
    .columns = "segments [{label, text}]",
    .kind = RowKind::segments,
    .rank = 0,
    .matches = [](const Json& row) { return has_column(row, "segments"); },
    .is_chat = never_chat,
    .meaning = [](const Json&,
                  const DatasetShape&) { return std::string("text segments, each with a label"); },
    .used = [](const Json&, const DatasetShape&) { return std::vector<std::string>{"segments"}; },
    .read = read_segments};

const ShapeFamily kTokenisedShape = {
    .name = "tokenised",
    .aliases = {"tokenized", "input_ids", "pretokenized"},
    .columns = "input_ids + [labels] + [attention_mask]",
    .kind = RowKind::tokenised,
    .rank = 0,
    .matches = [](const Json& row) { return has_column(row, "input_ids"); },
    .is_chat = never_chat,
    .meaning =
        [](const Json& row, const DatasetShape&) {
          return std::string(has_column(row, "labels") ? "token ids with labels" : "token ids");
        },
    .used =
        [](const Json&, const DatasetShape&) {
          return std::vector<std::string>{"input_ids", "labels", "attention_mask", "completion_mask",
                                          "assistant_masks"};
        },
    .read = read_tokenised};

}  // namespace serval
