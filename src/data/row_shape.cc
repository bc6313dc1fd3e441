#include "data/row_shape.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/text.h"
#include "data/shapes/columns.h"
#include "data/shapes/shape_family.h"

namespace serval {
namespace {

const ShapeFamily* family_named(const std::string& name) {
  for (const ShapeFamily& family : shape_families()) {
    if (family.name == name) return &family;
    if (std::find(family.aliases.begin(), family.aliases.end(), name) != family.aliases.end()) return &family;
  }
  // Axolotl writes "chat_template.default", "alpaca:chat".
  const size_t end = name.find_first_of(".:");
  if (end != std::string::npos) return family_named(name.substr(0, end));
  std::vector<std::string> known = {"auto"};
  for (const ShapeFamily& family : shape_families()) {
    known.push_back(family.name);
    known.insert(known.end(), family.aliases.begin(), family.aliases.end());
  }
  const std::string nearest = nearest_name(name, known);
  std::vector<std::string> names = {"auto"};
  for (const ShapeFamily& family : shape_families()) names.push_back(family.name);
  fail_usage("dataset_format {} is no known shape{}; known are: {}", in_quotes(name),
             nearest.empty() ? "" : ", did you mean '" + nearest + "'?", join(names, ", "));
}

// What LLaMA-Factory calls the columns of its Alpaca shape.
ColumnNames resolved_columns(const ColumnNames& given) {
  const bool has_query = std::any_of(given.begin(), given.end(), [](const auto& pair) {
    return pair.first == "query" || pair.first == "response";
  });
  ColumnNames result;
  for (const auto& [meaning, name] : given) {
    std::string resolved = meaning == "query"      ? "input"
                           : meaning == "response" ? "output"
                           : meaning == "kto_tag"  ? "label"
                                                   : meaning;
    if (has_query && meaning == "prompt") resolved = "instruction";
    result.emplace_back(std::move(resolved), name);
  }
  return result;
}

void check_columns(const ColumnNames& columns) {
  static const std::vector<std::string> kMeanings = {
      "messages",    "system",   "tools",     "prompt",        "completion", "instruction",    "input",
      "output",      "history",  "chosen",    "rejected",      "label",      "text",           "role",
      "content",     "question", "answer",    "input_ids",     "labels",     "attention_mask", "margin",
      "completions", "segments", "documents", "conversations", "training",   "training_detail"};
  for (const auto& [meaning, name] : columns) {
    if (name.empty()) fail_usage("dataset_columns: the column of '{}' has no name", meaning);
    if (std::find(kMeanings.begin(), kMeanings.end(), meaning) != kMeanings.end()) continue;
    const std::string nearest = nearest_name(meaning, kMeanings);
    fail_usage("dataset_columns: '{}' is nothing that a column can mean{}; known are: {}", meaning,
               nearest.empty() ? "" : ", did you mean '" + nearest + "'?", join(kMeanings, ", "));
  }
}

// The row under the names that shapes know. A column that had such a name already gives way.
Json renamed(const Json& row, const ColumnNames& columns) {
  Json result = Json::object();
  for (const auto& [meaning, name] : columns)
    if (const Json* value = row.find(name)) result.set(meaning, *value);
  for (const auto& [name, value] : row.as_object()) {
    const bool moved = std::any_of(columns.begin(), columns.end(),
                                   [&, &name = name](const auto& pair) { return pair.second == name; });
    if (!moved && !result.contains(name)) result.set(name, value);
  }
  return result;
}

const char* use_text(RowUse use) {
  switch (use) {
    case RowUse::any:
      return "this";
    case RowUse::supervised:
      return "supervised fine-tuning (SFT)";
    case RowUse::preference:
      return "preference training (DPO, ORPO, CPO, SimPO, reward models)";
    case RowUse::unpaired:
      return "KTO";
    case RowUse::prompts:
      return "reinforcement learning (GRPO, RLOO)";
    case RowUse::stepwise:
      return "a process reward model";
  }
  return "";
}

bool serves(RowKind kind, RowUse use) {
  switch (use) {
    case RowUse::any:
      return true;
    case RowUse::supervised:
      return kind == RowKind::text || kind == RowKind::prompt_completion || kind == RowKind::conversation ||
             kind == RowKind::segments || kind == RowKind::tokenised;
    case RowUse::preference:
      return kind == RowKind::preference;
    case RowUse::unpaired:
      return kind == RowKind::unpaired || kind == RowKind::preference;
    case RowUse::prompts:
      return kind == RowKind::prompt;
    case RowUse::stepwise:
      return kind == RowKind::stepwise;
  }
  return false;
}

RowUse use_of(RowKind kind) {
  for (const RowUse use : {RowUse::supervised, RowUse::preference, RowUse::unpaired, RowUse::prompts})
    if (serves(kind, use)) return use;
  return RowUse::stepwise;
}

std::string known_shapes(RowUse use) {
  std::vector<std::string> columns;
  for (const ShapeFamily& family : shape_families())
    if (serves(family.kind, use)) columns.push_back(family.columns);
  return join(columns, "; ");
}

void refuse_media(const Json& row, const std::string& where) {
  for (const char* media : {"image", "images", "audio", "audios", "video", "videos"}) {
    const Json* value = row.find(media);
    const bool empty = value == nullptr || value->is_null() || (value->is_array() && value->size() == 0);
    if (!empty)
      fail(
          "{}: the column '{}' asks for training on media, which is not supported; remove the column to "
          "train on the text alone",
          where, media);
  }
}

const ShapeFamily& family_of_columns(const Json& row, const ShapeOptions& options, const std::string& where) {
  if (options.text_field != "text") {
    if (row.contains(options.text_field)) return kTextShape;
    fail("{}: there is no column '{}' (dataset_text_field); found columns: {}", where, options.text_field,
         names_of_columns(row));
  }
  if (options.format != "auto" && !options.format.empty()) return *family_named(options.format);
  // Reward functions get all columns but the prompt, whatever else they would mean.
  if (options.use == RowUse::prompts && kPromptShape.matches(row)) return kPromptShape;
  const ShapeFamily* found = nullptr;
  for (const ShapeFamily& family : shape_families()) {
    if (!family.matches(row)) continue;
    if (found == nullptr || family.rank < found->rank) {
      found = &family;
    } else if (family.rank == found->rank) {
      fail(
          "{}: the columns are of two kinds of dataset, '{}' and '{}'; remove one of them, or say which with "
          "dataset_format {} or {}",
          where, found->columns, family.columns, found->name, family.name);
    }
  }
  if (found == nullptr)
    fail(
        "{}: these columns are no known kind of dataset: {}; known are: {}; dataset_columns can say what "
        "columns mean",
        where, names_of_columns(row), known_shapes(options.use));
  return *found;
}

std::string not_read(const Json& row, const std::vector<std::string>& used) {
  std::vector<std::string> rest;
  for (const auto& [name, value] : row.as_object())
    if (std::find(used.begin(), used.end(), name) == used.end()) rest.push_back(name);
  return rest.empty() ? std::string() : join(rest, ", ");
}

void check_use(const DatasetShape& shape, const std::string& meaning, const std::string& where) {
  if (serves(shape.kind, shape.use)) return;
  const char* advice =
      shape.use == RowUse::supervised && shape.kind == RowKind::preference
          ? "; serval data convert --to messages keeps the chosen answers"
      : shape.use == RowUse::supervised && shape.kind == RowKind::unpaired
          ? "; serval data convert --to messages keeps the wanted answers, and dataset_format names another "
            "shape"
          : "; dataset_format or dataset_columns can name another shape";
  fail("{}: the rows are {}, which {} trains on; {} needs {}{}", where, meaning, use_text(use_of(shape.kind)),
       use_text(shape.use), known_shapes(shape.use), advice);
}

}  // namespace

DatasetShape detect_shape(const DatasetReader& rows, const ShapeOptions& options) {
  const std::string where = rows.where(0);
  DatasetShape shape;
  shape.text_field = options.text_field;
  shape.use = options.use;
  shape.allow_media = options.allow_media;
  const ColumnNames columns = resolved_columns(options.columns);
  check_columns(columns);
  for (const auto& [meaning, name] : columns) {
    if (meaning == "role")
      shape.role_key = name;
    else if (meaning == "content")
      shape.content_key = name;
    else if (meaning == "training")
      shape.training_key = name;
    else if (meaning == "training_detail")
      shape.training_detail_key = name;
    else
      shape.columns.emplace_back(meaning, name);
  }
  Json row = rows.row(0);
  for (const auto& [meaning, name] : shape.columns)
    if (!row.contains(name))
      fail("{}: there is no column '{}', which dataset_columns calls {}; found columns: {}", where, name,
           meaning, names_of_columns(row));
  if (!shape.columns.empty()) row = renamed(row, shape.columns);
  if (!options.allow_media) refuse_media(row, where);

  const ShapeFamily& family = family_of_columns(row, options, where);
  shape.family = &family;
  shape.kind = family.kind;
  // A shape that the user named may not fit the first row; then reading that row says what is missing.
  const bool fits = family.matches(row);
  shape.chat = fits || family.kind == RowKind::conversation ? family.is_chat(row, options.has_chat_template)
                                                            : options.has_chat_template;
  const std::string meaning = family.meaning(row, shape);
  check_use(shape, meaning, where);
  if (shape.chat && !options.has_chat_template)
    fail(
        "{}: the rows are conversations, but the model has no chat template; add chat_template.jinja beside "
        "its tokenizer, or use prompt/completion or text rows",
        where);
  const std::string rest = not_read(row, family.used(row, shape));
  const char* what = family.kind == RowKind::prompt ? "for reward functions" : "not read";
  shape.explanation = fmt::format("{}: {} rows of {}{}", rows.path(), rows.size(), meaning,
                                  rest.empty() ? "" : fmt::format("; {}: {}", what, rest));
  read_training_row(rows.row(0), shape, where);  // a wrong first row is reported before any work
  return shape;
}

TrainingRow read_training_row(const Json& row, const DatasetShape& shape, const std::string& where) {
  SERVAL_CHECK(shape.family != nullptr);
  if (shape.columns.empty()) return shape.family->read(row, shape, where);
  return shape.family->read(renamed(row, shape.columns), shape, where);
}

}  // namespace serval
