#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/cli.h"
#include "data/dataset.h"
#include "data/row_shape.h"
#include "formats/checkpoint.h"
#include "formats/peft.h"
#include "models/decoder_config.h"
#include "text/tokenizer.h"

namespace serval {
namespace {

std::string dims_text(const SafetensorsEntry& entry) {
  std::string text;
  for (const int64_t dim : entry.dims) text += (text.empty() ? "" : ", ") + std::to_string(dim);
  return "[" + text + "]";
}

Json entry_json(const SafetensorsEntry& entry) {
  Json shape = Json::array();
  for (const int64_t dim : entry.dims) shape.push_back(Json(dim));
  Json json = Json::object();
  json.set("name", Json(entry.name));
  json.set("dtype", Json(entry.format_dtype));
  json.set("shape", shape);
  json.set("bytes", Json(static_cast<int64_t>(entry.end - entry.begin)));
  return json;
}

struct Report {
  Json json = Json::object();
  std::string text;
  void line(const std::string& key, const std::string& value) {
    text += fmt::format("{:<14}{}\n", key, value);
    json.set(key, Json(value));
  }
};

void report_tensors(Report& report, const std::vector<const SafetensorsEntry*>& entries) {
  Json list = Json::array();
  int64_t bytes = 0;
  for (const SafetensorsEntry* entry : entries) bytes += static_cast<int64_t>(entry->end - entry->begin);
  report.text += fmt::format("{:<14}{} tensors, {}\n", "tensors", entries.size(), human_bytes(bytes));
  for (const SafetensorsEntry* entry : entries) {
    report.text += fmt::format("  {:<60} {:<5} {}\n", entry->name, entry->format_dtype, dims_text(*entry));
    list.push_back(entry_json(*entry));
  }
  report.json.set("tensors", std::move(list));
}

void inspect_file(Report& report, const std::string& path) {
  if (is_gguf(path)) refuse_gguf(path);
  if (path.ends_with(".safetensors")) {
    const SafetensorsFile file(path);
    report.line("kind", "safetensors");
    for (const auto& [key, value] : file.metadata()) report.line("metadata " + key, value);
    std::vector<const SafetensorsEntry*> entries;
    for (const auto& entry : file.entries()) entries.push_back(&entry);
    report_tensors(report, entries);
    return;
  }
  if (path.ends_with(".jsonl") || path.ends_with(".json")) {
    const auto rows = open_dataset(path);
    report.line("kind", "dataset");
    report.line("rows", std::to_string(rows->size()));
    report.line("shape", detect_shape(*rows, {.has_chat_template = true, .use = RowUse::any}).explanation);
    return;
  }
  fail("{}: neither a safetensors file nor a dataset (.jsonl, .json), nor a directory", path);
}

void inspect_directory(Report& report, const std::string& directory) {
  bool found = false;
  if (const std::string path = join_path(directory, "config.json"); file_exists(path)) {
    found = true;
    report.line("kind", "checkpoint");
    const DecoderConfig c = read_decoder_config(Json::parse(read_file(path, 16 << 20), path), path);
    report.line(
        "architecture",
        fmt::format("{}: {} layers, hidden {}, intermediate {}, {} heads of {} ({} for keys), vocabulary {}",
                    c.model_type, c.num_hidden_layers, c.hidden_size, c.intermediate_size,
                    c.num_attention_heads, c.head_dim, c.num_key_value_heads, c.vocab_size));
    report.line("parameters", human_count(static_cast<double>(c.parameter_count())));
  }
  if (file_exists(join_path(directory, "adapter_config.json"))) {
    found = true;
    const AdapterConfig a = AdapterConfig::read(directory);
    report.line("adapter",
                fmt::format("LoRA r {} alpha {} on {} of {}", a.r, a.alpha, join(a.target_modules, ", "),
                            a.base_model.empty() ? "an unnamed model" : a.base_model));
    const AdapterFile file(directory);
    std::vector<const SafetensorsEntry*> entries;
    for (const auto& entry : file.file().entries()) entries.push_back(&entry);
    report_tensors(report, entries);
  } else if (file_exists(join_path(directory, "model.safetensors")) ||
             file_exists(join_path(directory, "model.safetensors.index.json")) || !found) {
    const Checkpoint checkpoint = Checkpoint::open(directory);
    found = true;
    report_tensors(report, checkpoint.entries());
  }
  if (file_exists(join_path(directory, "tokenizer.json"))) {
    const Tokenizer tokenizer = Tokenizer::from_directory(directory);
    report.line("tokenizer", fmt::format("{} tokens", tokenizer.vocab_size()));
  }
}

}  // namespace

int run_inspect(const Arguments& arguments) {
  const std::string path = resolve_model(arguments.positionals[0]);
  Report report;
  if (directory_exists(path))
    inspect_directory(report, path);
  else
    inspect_file(report, path);
  print_result(arguments.settings.flag("json") ? report.json.dump(2) + "\n" : report.text);
  return 0;
}

}  // namespace serval
