#include "data/prepare.h"

#include <algorithm>
#include <bit>
#include <ctime>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/example_file.h"
#include "data/group_example.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_metadata.h"

namespace serval {
namespace {

// Another layout of these structs means that what follows must be looked at: each field belongs to the key.
static_assert(sizeof(MaskOptions) == 144 && sizeof(ExampleOptions) == 160 && sizeof(ShapeOptions) == 104 &&
              sizeof(MergeOptions) == 80 && sizeof(DataStatistics) == 88);

void add_options(const MaskOptions& options, ContentHash& hash) {
  hash.number(options.assistant_only_loss).number(options.last_turn_only);
  hash.number(options.completion_only_loss ? *options.completion_only_loss : -1);
  hash.number(options.train_on_inputs ? *options.train_on_inputs : -1)
      .number(static_cast<int64_t>(options.ends));
  hash.text(join(options.eot_tokens, "\n"));
  hash.text(join(options.train_on_roles, "\n")).text(options.instruction_part).text(options.response_part);
  hash.number(std::bit_cast<int64_t>(options.prompt_loss_weight));
}

void add_options(const ExampleOptions& options, ContentHash& hash) {
  hash.number(options.max_length).number(static_cast<int64_t>(options.truncation));
  hash.number(static_cast<int64_t>(options.pieces));
  add_options(options.mask, hash);
}

void add_options(const ShapeOptions& options, ContentHash& hash) {
  hash.text(options.text_field).text(options.format);
  hash.number(options.has_chat_template)
      .number(static_cast<int64_t>(options.use))
      .number(options.allow_media);
  hash.number(static_cast<int64_t>(options.columns.size()));
  for (const auto& [meaning, name] : options.columns) hash.text(meaning).text(name);
}

void add_options(const MergeOptions& options, ContentHash& hash) {
  hash.text(options.prompt);
  if (options.prompt.empty()) return;
  hash.text(options.output_column).number(options.conversation_extension);
  hash.number(static_cast<int64_t>(options.seed));
}

Json to_json(const DataStatistics& s) {
  Json json = Json::array();
  for (const int64_t count : {s.rows, s.examples, s.tokens, s.labels, s.truncated, s.tokens_cut, s.over_long,
                              s.dropped, s.double_bos, s.boundary_mismatches, s.longest})
    json.push_back(Json(count));
  return json;
}

DataStatistics statistics_from(const Json& json) {
  DataStatistics s;
  size_t i = 0;
  for (int64_t* count : {&s.rows, &s.examples, &s.tokens, &s.labels, &s.truncated, &s.tokens_cut,
                         &s.over_long, &s.dropped, &s.double_bos, &s.boundary_mismatches, &s.longest})
    *count = json.as_array().at(i++).as_int();
  return s;
}

// Passes documents on and remembers the range of their ids.
class IdRange final : public ExampleSink {
 public:
  explicit IdRange(ExampleSink& next) : next_(next) {}
  void add(std::span<const int32_t> ids, const std::vector<bool>& trained,
           std::span<const float> weights) override {
    for (const int32_t id : ids) {
      smallest = std::min(smallest, id);
      largest = std::max(largest, id);
    }
    next_.add(ids, trained, weights);
  }
  void add_values(std::span<const double> values) override { next_.add_values(values); }
  int32_t smallest = std::numeric_limits<int32_t>::max(), largest = std::numeric_limits<int32_t>::min();

 private:
  ExampleSink& next_;
};

std::string cache_name(const DatasetSource& source, const DatasetFiles& files,
                       const PrepareOptions& options) {
  ContentHash hash;
  hash.text("tokens").text(options.fingerprint);
  hash.text(source.format).text(source.sample_by).text(source.delimiter).text(source.rest.dump());
  add_options(options.shape, hash);
  add_options(options.merge, hash);
  add_options(options.examples, hash);
  for (const auto& [split, rows] : files.expected_rows) hash.text(split).number(rows);
  for (const SplitFiles& part : files.parts) {
    hash.number(static_cast<int64_t>(part.files.size())).number(part.split.drop_remainder);
    for (const auto& bound : {part.split.from, part.split.to})
      hash.number(bound ? bound->value : std::numeric_limits<int64_t>::min()).number(bound && bound->percent);
    // The name tells the kind of file.
    for (const std::string& file : part.files) hash.text(base_name(file)).file(file);
  }
  return "tokens-" + hash.hex();
}

void tokenize_into(CacheWriter& out, const DatasetSource& source, const DatasetFiles& files,
                   const PrepareOptions& options) {
  std::vector<std::string> size_notes;
  auto rows = open_dataset(source, files, options.cache, &size_notes);
  if (!options.merge.prompt.empty()) rows = merge_columns(std::move(rows), options.merge);
  const DatasetShape shape = detect_shape(*rows, shape_of_source(source, options.shape));
  ExampleOptions examples = options.examples;
  examples.mask = mask_of_source(source, examples.mask);
  ExampleFileWriter writer(out, options.cache.directory());
  IdRange range(writer);
  const auto tokenize = is_group(shape.kind) ? tokenize_groups : tokenize_dataset;
  const TokenizedData data =
      tokenize(*rows, shape, options.tokenizer, options.chat_template, examples, options.progress, &range);
  Json note = Json::object();
  note.set("statistics", to_json(data.statistics));
  note.set("kind", Json(static_cast<int64_t>(shape.kind)));
  note.set("explanation", Json(shape.explanation));
  note.set("smallest_id", Json(static_cast<int64_t>(range.smallest)));
  note.set("largest_id", Json(static_cast<int64_t>(range.largest)));
  Json notes = Json::array();
  for (const std::string& one : size_notes) notes.push_back(Json(one));
  for (const std::string& one : data.notes) notes.push_back(Json(one));
  note.set("notes", std::move(notes));
  writer.finish(note);
}

bool belongs_to_tokenizer(const std::string& name) {
  return is_tokenizer_file(name) || name.ends_with(".gguf") || name == "config.json" ||
         name == "generation_config.json";
}

bool shows_day(std::string_view text) {
  return text.find("strftime_now") != std::string_view::npos;
}

// Of a GGUF what it says of its tokenizer: the weights behind it may be huge.
void add_gguf(const std::string& path, ContentHash& hash, bool& with_day) {
  const GgufMetadata gguf = GgufMetadata::open(path);
  for (const std::string_view key : gguf.keys()) {
    if (!key.starts_with("tokenizer.")) continue;
    const std::string_view value = gguf.find(key)->bytes;
    hash.text(key).text(value);
    with_day = with_day || shows_day(value);
  }
}

void add_files(const std::string& path, ContentHash& hash, bool& with_day) {
  const std::string name = base_name(path);
  hash.text(name);
  if (is_gguf(path)) return add_gguf(path, hash, with_day);
  hash.file(path);
  const bool may_hold_template = ends_with(name, ".jinja") || ends_with(name, ".json");
  if (may_hold_template && shows_day(read_file(path))) with_day = true;
}

}  // namespace

std::string fingerprint_of_tokenizer(const std::string& path, const std::string& chat_template) {
  ContentHash hash;
  hash.file("/proc/self/exe").text(chat_template);
  bool with_day = shows_day(chat_template);
  const std::string directory = directory_of_model(path);
  if (directory != path) {
    hash.text("file");
    add_files(path, hash, with_day);
  }
  for (const std::string& name : list_directory(directory)) {
    const std::string file = join_path(directory, name);
    // Beside a file that was named, another GGUF has no part in anything.
    if (directory != path && name.ends_with(".gguf")) continue;
    if (belongs_to_tokenizer(name) && file_exists(file)) add_files(file, hash, with_day);
  }
  const std::string more = join_path(directory, "additional_chat_templates");
  if (directory_exists(more))
    for (const std::string& name : list_directory(more)) add_files(join_path(more, name), hash, with_day);
  if (with_day) {
    const std::time_t now = std::time(nullptr);
    std::tm day{};
    localtime_r(&now, &day);
    hash.number(day.tm_year).number(day.tm_yday);
  }
  return hash.hex();
}

ShapeOptions shape_of_source(const DatasetSource& source, ShapeOptions shape) {
  const Json& said = source.rest;
  if (const Json* type = said.find("type")) shape.format = type->as_string();
  if (const Json* field = said.find("text_field")) shape.text_field = field->as_string();
  const Json *columns = said.find("columns"), *messages = said.find("field_messages");
  const Json *training = said.find("message_field_training"),
             *detail = said.find("message_field_training_detail");
  if (columns != nullptr || messages != nullptr) shape.columns.clear();
  if (columns != nullptr)
    for (const auto& [meaning, name] : columns->as_object())
      shape.columns.emplace_back(meaning, name.as_string());
  if (messages != nullptr) shape.columns.emplace_back("messages", messages->as_string());
  if (training != nullptr) shape.columns.emplace_back("training", training->as_string());
  if (detail != nullptr) shape.columns.emplace_back("training_detail", detail->as_string());
  return shape;
}

MaskOptions mask_of_source(const DatasetSource& source, MaskOptions mask) {
  const Json& said = source.rest;
  if (const Json* ends = said.find("train_on_eos")) mask.ends = turn_ends_from_name(ends->as_string());
  if (const Json* roles = said.find("roles_to_train")) {
    mask.train_on_roles.clear();
    for (const Json& role : roles->as_array()) mask.train_on_roles.push_back(role.as_string());
    if (mask.train_on_roles.empty()) mask.train_on_roles = {""};  // nobody: messages say it themselves
  }
  return mask;
}

PreparedData prepare_dataset(const DatasetSource& source, const PrepareOptions& options) {
  const DatasetFiles files = find_dataset_files(source);
  DataCache cache = options.cache;
  if (options.fingerprint.empty()) cache = DataCache();
  bool made = false;
  const std::string name = cache.directory().empty() ? std::string() : cache_name(source, files, options);
  MappedFile file = cache.get(
      name, ExampleFile::is_whole, [&](CacheWriter& out) { tokenize_into(out, source, files, options); },
      &made);
  const ExampleFile tokens = ExampleFile::open(std::move(file));
  PreparedData result;
  result.from_cache = !made;
  result.examples = Examples(tokens.block);
  result.statistics = statistics_from(tokens.note.at("statistics"));
  result.kind = static_cast<RowKind>(tokens.note.at("kind").as_int());
  result.explanation = tokens.note.at("explanation").as_string();
  result.smallest_id = static_cast<int32_t>(tokens.note.at("smallest_id").as_int());
  result.largest_id = static_cast<int32_t>(tokens.note.at("largest_id").as_int());
  if (!files.note.empty()) result.notes.push_back(source.path + ": " + files.note);
  for (const Json& note : tokens.note.at("notes").as_array()) result.notes.push_back(note.as_string());
  return result;
}

}  // namespace serval
