#include "text/template_library.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "base/text.h"
#include "text/template_files.h"

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
      {"chatml", {}, "chatml", "<|im_end|>", "", {"<|im_end|>", "<|im_start|>"}},
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
  if (!entry->eos_token.empty())
    variables.set("eos_token", entry->eos_token);
  else if (!variables.contains("eos_token"))
    variables.set("eos_token", "");
  return ChatTemplate(entry->source(), std::move(variables), std::string(entry->name));
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
