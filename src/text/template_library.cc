#include "text/template_library.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "text/template_files.h"
#include "text/template_set.h"

namespace serval {
namespace {

std::string plain_name(std::string_view name) {
  std::string plain;
  for (const char c : name)
    plain += c == '_' || c == ' ' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return plain;
}

// A value of a Modelfile; what has quotes or line breaks stands between three quotes.
std::string quoted(std::string_view text, const char* what) {
  if (text.find("\"\"\"") != std::string_view::npos)
    fail("a Modelfile cannot hold three double quotes in a row, as in the {}", what);
  const bool plain = text.find_first_of("\"\n\r") == std::string_view::npos;
  return plain ? fmt::format("\"{}\"", text) : fmt::format("\"\"\"{}\"\"\"", text);
}

}  // namespace

const std::vector<LibraryTemplate>& library_templates() {
  static const std::vector<LibraryTemplate> entries = {
      {"alpaca", {}, "alpaca", "", "<s>", "</s>", {"### Instruction:"}},
      {"chatml", {}, "chatml", "<|im_end|>", "", "<|im_end|>", {"<|im_end|>", "<|im_start|>"}},
      {"gemma",
       {"gemma2", "gemma-2"},
       "gemma",
       "<end_of_turn>",
       "<bos>",
       "",
       {"<end_of_turn>", "<start_of_turn>"}},
      {"gemma-chatml",
       {"gemma2-chatml", "gemma-2-chatml"},
       "gemma_chatml",
       "<|im_end|>",
       "<bos>",
       "<|im_end|>",
       {"<|im_end|>", "<|im_start|>"}},
      {"gemma-3", {"gemma3"}, "gemma-3", "<end_of_turn>", "<bos>", "", {"<end_of_turn>", "<start_of_turn>"}},
      {"gemma-3n",
       {"gemma3n"},
       "gemma-3n",
       "<end_of_turn>",
       "<bos>",
       "",
       {"<end_of_turn>", "<start_of_turn>"}},
      {"gemma-4", {"gemma4"}, "gemma-4", "<turn|>", "<bos>", "", {"<turn|>", "<|turn>"}},
      // <|end|> ends a message of an answer ("analysis"), not the answer.
      {"gpt-oss",
       {"gptoss", "gpt-oss-20b", "gpt-oss-120b"},
       "gpt-oss",
       "<|return|>",
       "",
       "<|return|>",
       {"<|return|>", "<|call|>"}},
      {"lfm-2", {"lfm2"}, "lfm-2", "<|im_end|>", "<|startoftext|>", "<|im_end|>", {"<|im_end|>"}},
      {"lfm-2.5", {"lfm2.5"}, "lfm-2.5", "<|im_end|>", "<|startoftext|>", "<|im_end|>", {"<|im_end|>"}},
      {"llama", {"llama-2", "llama2"}, "llama", "", "<s>", "</s>", {"[INST]", "<<SYS>>"}},
      {"llama-3",
       {"llama3"},
       "llama-3",
       "<|eot_id|>",
       "<|begin_of_text|>",
       "",
       {"<|eot_id|>", "<|start_header_id|>"}},
      {"llama-3.1",
       {"llama-31", "llama-3.3", "llama-33"},
       "llama-3.1",
       "<|eot_id|>",
       "<|begin_of_text|>",
       "",
       {"<|eot_id|>", "<|eom_id|>", "<|start_header_id|>"}},
      {"llama-3.2",
       {"llama-32"},
       "llama-3.2",
       "<|eot_id|>",
       "<|begin_of_text|>",
       "",
       {"<|eot_id|>", "<|start_header_id|>"}},
      {"mistral", {}, "mistral", "", "<s>", "</s>", {"[INST]", "[/INST]"}},
      {"mistral-nemo", {}, "mistral-nemo", "", "<s>", "</s>", {"[INST]", "[/INST]"}},
      {"phi-3", {"phi3"}, "phi-3", "<|end|>", "", "<|endoftext|>", {"<|end|>", "<|user|>", "<|assistant|>"}},
      {"phi-3.5",
       {"phi-35"},
       "phi-3.5",
       "<|end|>",
       "",
       "<|endoftext|>",
       {"<|end|>", "<|user|>", "<|assistant|>"}},
      {"phi-4", {"phi4"}, "phi-4", "<|im_end|>", "", "<|im_end|>", {"<|im_end|>", "<|im_start|>"}},
      {"qwen-2.5",
       {"qwen-25", "qwen25", "qwen2.5", "qwen-2.5-coder", "qwen-25-coder", "qwen25-coder", "qwen2.5-coder"},
       "qwen-2.5",
       "<|im_end|>",
       "",
       "<|im_end|>",
       {"<|im_end|>", "<|im_start|>"}},
      {"qwen-3", {"qwen3"}, "qwen-3", "<|im_end|>", "", "<|im_end|>", {"<|im_end|>", "<|im_start|>"}},
      {"qwen3-instruct",
       {"qwen-3-instruct"},
       "qwen3-instruct",
       "<|im_end|>",
       "",
       "<|im_end|>",
       {"<|im_end|>", "<|im_start|>"}},
      {"qwen3-thinking",
       {"qwen-3-thinking"},
       "qwen3-thinking",
       "<|im_end|>",
       "",
       "<|im_end|>",
       {"<|im_end|>", "<|im_start|>"}},
      {"starling",
       {},
       "starling",
       "<|end_of_turn|>",
       "<s>",
       "</s>",
       {"<|end_of_turn|>", "GPT4 Correct User:"}},
      {"unsloth", {}, "unsloth", "", "<s>", "</s>", {">>> User:"}},
      {"vicuna", {}, "vicuna", "", "<s>", "</s>", {"USER:"}},
      {"vicuna-old", {}, "vicuna_old", "", "<s>", "</s>", {"### Human:"}},
      {"yi-chat", {}, "chatml", "<|im_end|>", "", "<|im_end|>", {"<|im_end|>", "<|endoftext|>"}},
      {"zephyr", {}, "zephyr", "", "<s>", "</s>", {"<|user|>", "<|system|>"}},
  };
  return entries;
}

std::string_view LibraryTemplate::source() const {
  return library_file(std::string(file) + ".jinja");
}

std::string_view LibraryTemplate::go_template() const {
  return library_file(std::string(file) + ".gotmpl");
}

const LibraryTemplate* find_library_template(std::string_view name) {
  const std::string wanted = plain_name(name);
  for (const LibraryTemplate& entry : library_templates()) {
    if (plain_name(entry.name) == wanted) return &entry;
    for (const std::string_view alias : entry.aliases)
      if (plain_name(alias) == wanted) return &entry;
  }
  return nullptr;
}

ChatTemplate library_chat_template(std::string_view name, Json variables) {
  const LibraryTemplate* entry = find_library_template(name);
  if (entry == nullptr) {
    std::vector<std::string> names;
    for (const LibraryTemplate& known : library_templates()) names.emplace_back(known.name);
    const std::string nearest = nearest_name(name, names);
    fail("there is no built-in chat template '{}'{}; there are: {}", name,
         nearest.empty() ? "" : ", did you mean '" + nearest + "'?", join(names, ", "));
  }
  if (!variables.contains("bos_token")) variables.set("bos_token", entry->bos_token);
  if (!variables.contains("eos_token")) variables.set("eos_token", entry->eos_token);
  return ChatTemplate(entry->source(), std::move(variables), std::string(entry->name));
}

ChatTemplate open_chat_template(const std::string& named, const std::string& directory) {
  if (named.empty()) return ChatTemplate::from_directory(directory);
  return named_chat_template(named, directory.empty() ? Json::object() : template_variables(directory));
}

const LibraryTemplate* built_in_template(const std::string& named) {
  return file_exists(named) ? nullptr : find_library_template(named);
}

ChatTemplate named_chat_template(const std::string& named, Json variables) {
  if (file_exists(named)) return ChatTemplate(read_file(named, 4 << 20), std::move(variables), named);
  const bool is_path = named.find('/') != std::string::npos || ends_with(named, ".jinja");
  if (is_path) fail("{}: no such file (a chat template is a file or the name of a built-in one)", named);
  return library_chat_template(named, std::move(variables));
}

std::string modelfile(const LibraryTemplate& entry, const std::string& from,
                      const ModelfileOptions& options) {
  if (from.empty() || from.find_first_of("\r\n") != std::string::npos)
    fail("a Modelfile needs the path of the model in one line");
  std::string text = fmt::format("FROM {}\n", from);
  if (!options.adapter.empty()) text += fmt::format("ADAPTER {}\n", options.adapter);
  if (options.go_template) {
    if (entry.go_template().empty()) fail("there is no Ollama template for '{}'", entry.name);
    text += fmt::format("TEMPLATE \"\"\"{}\"\"\"\n", entry.go_template());
  }
  if (!options.system.empty()) text += fmt::format("SYSTEM {}\n", quoted(options.system, "system message"));
  for (const std::string_view stop : entry.stop)
    text += fmt::format("PARAMETER stop {}\n", quoted(stop, "stop text"));
  if (options.temperature >= 0) text += fmt::format("PARAMETER temperature {}\n", options.temperature);
  if (options.top_p >= 0) text += fmt::format("PARAMETER top_p {}\n", options.top_p);
  if (options.min_p >= 0) text += fmt::format("PARAMETER min_p {}\n", options.min_p);
  if (options.context_length > 0) text += fmt::format("PARAMETER num_ctx {}\n", options.context_length);
  return text;
}

}  // namespace serval
