#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/cli.h"
#include "data/dataset.h"
#include "data/row_shape.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_metadata.h"
#include "formats/model_source.h"
#include "formats/peft.h"
#include "models/decoder_config.h"
#include "text/tokenizer.h"
#include "text/tokenizer/rank_file.h"
#include "train/text_tools.h"

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

// The special tokens, a line: those that are named, and how many more there are.
std::string special_tokens_text(const Tokenizer& tokenizer) {
  int64_t count = 0;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) count += tokenizer.is_special(id) ? 1 : 0;
  std::string text = std::to_string(count);
  const std::pair<const char*, std::optional<int32_t>> named[] = {
      {"bos", tokenizer.bos_id()}, {"eos", tokenizer.eos_id()}, {"pad", tokenizer.pad_id()}};
  for (const auto& [name, id] : named)
    if (id) text += fmt::format(", {} {} ({})", name, in_quotes(tokenizer.id_to_token(*id)), *id);
  return text;
}

void report_tokenizer(Report& report, const std::string& path) {
  const Tokenizer tokenizer = Tokenizer::from_path(path);
  report.line("tokenizer", fmt::format("{} tokens", tokenizer.vocab_size()));
  report.json.set("vocab_size", Json(tokenizer.vocab_size()));
  report.line("special", special_tokens_text(tokenizer));
  Json special = Json::array();
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_special(id)) continue;
    Json one = Json::object();
    one.set("id", Json(static_cast<int64_t>(id)));
    one.set("token", Json(tokenizer.id_to_token(id)));
    special.push_back(std::move(one));
  }
  report.json.set("special_tokens", std::move(special));
  Json notes = Json::array();
  for (const std::string& note : tokenizer.notes()) {
    report.text += fmt::format("{:<14}{}\n", "note", note);
    notes.push_back(Json(note));
  }
  report.json.set("notes", std::move(notes));
  const TextTools tools = open_text_tools({.tokenizer = path, .with_fingerprint = false, .quiet = true});
  report.line("chat template", tools.chat_template ? tools.chat_template->where() : "none");
}

void inspect_gguf(Report& report, const std::string& path) {
  const GgufMetadata gguf = GgufMetadata::open(path);
  report.line("kind", fmt::format("GGUF version {}", gguf.version()));
  report.line("architecture", std::string(gguf.find_string("general.architecture").value_or("not named")));
  if (const auto name = gguf.find_string("general.name")) report.line("name", std::string(*name));
  report.line("metadata", fmt::format("{} keys", gguf.keys().size()));
  report.line("tensors", std::to_string(gguf.tensors().size()));
  if (const auto model = gguf.find_string("tokenizer.ggml.model")) {
    const auto cut = gguf.find_string("tokenizer.ggml.pre");
    report.line("vocabulary", std::string(*model) + (cut ? ", cut as " + std::string(*cut) : ""));
    report_tokenizer(report, path);
  }
}

// "" where the file is no tokenizer.
std::string tokenizer_kind(const std::string& path) {
  const std::string name = base_name(path);
  if (name.ends_with(".tiktoken") || name == "tiktoken.model") return "tiktoken ranks";
  if (name.starts_with("tokenizer.model") || name.ends_with(".model") || name.ends_with(".spm"))
    return looks_like_tiktoken(read_file(path)) ? "tiktoken ranks" : "SentencePiece model";
  if (name.starts_with("tekken") && name.ends_with(".json")) return "tekken vocabulary";
  if (name == "vocab.txt") return "WordPiece vocabulary";
  if (name == "vocab.json" || name == "merges.txt") return "BPE vocabulary and merges";
  if (name == "tokenizer.json") return "tokenizer.json";
  return "";
}

void inspect_file(Report& report, const std::string& path) {
  if (is_gguf(path)) return inspect_gguf(report, path);
  if (const std::string kind = tokenizer_kind(path); !kind.empty()) {
    report.line("kind", kind);
    report_tokenizer(report, path);
    return;
  }
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
  fail("{}: neither a safetensors file, a tokenizer, a GGUF nor a dataset (.jsonl, .json), nor a directory",
       path);
}

void report_architecture(Report& report, const std::string& path) {
  const DecoderConfig c = read_decoder_config(Json::parse(read_file(path, 16 << 20), path), path);
  report.line("kind", "checkpoint");
  report.line(
      "architecture",
      fmt::format("{}: {} layers, hidden {}, intermediate {}, {} heads of {} ({} for keys), vocabulary {}",
                  c.model_type, c.num_hidden_layers, c.hidden_size, c.intermediate_size,
                  c.num_attention_heads, c.head_dim, c.num_key_value_heads, c.vocab_size));
  report.line("parameters", human_count(static_cast<double>(c.parameter_count())));
}

void inspect_directory(Report& report, const std::string& directory) {
  const auto has = [&](const char* name) { return file_exists(join_path(directory, name)); };
  const std::vector<std::string> names = list_directory(directory);
  const bool has_weights = has("model.safetensors") || has("model.safetensors.index.json");
  const bool has_tokenizer = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return !tokenizer_kind(join_path(directory, name)).empty() || name.ends_with(".gguf");
  });
  bool found = false;
  if (has("config.json")) {
    try {
      report_architecture(report, join_path(directory, "config.json"));
      found = true;
    } catch (const UserError& error) {
      // The tokenizer of a model that Serval does not run is one all the same.
      if (has_weights || !has_tokenizer) throw;
      report.line("kind", "tokenizer");
      report.line("architecture", error.what());
    }
  }
  if (has("adapter_config.json")) {
    found = true;
    const AdapterConfig a = AdapterConfig::read(directory);
    report.line("adapter",
                fmt::format("LoRA r {} alpha {} on {} of {}", a.r, a.alpha, join(a.target_modules, ", "),
                            a.base_model.empty() ? "an unnamed model" : a.base_model));
    const AdapterFile file(directory);
    std::vector<const SafetensorsEntry*> entries;
    for (const auto& entry : file.file().entries()) entries.push_back(&entry);
    report_tensors(report, entries);
  } else if (has_weights) {
    found = true;
    report_tensors(report, Checkpoint::open(directory).entries());
  }
  if (!found && !has_tokenizer) Checkpoint::open(directory);  // says what is missing
  if (!found && !report.json.contains("kind")) report.line("kind", "tokenizer");
  if (has_tokenizer) report_tokenizer(report, directory);
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
