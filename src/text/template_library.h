// Chat templates that Serval brings along, by the names that users of Unsloth know ("chatml", "llama-3.1",
// ...). Each marks the assistant's words with {% generation %}, and knows how a model ends its turn and how
// Ollama writes the same conversation.
//
//   const LibraryTemplate* entry = find_library_template("qwen2.5");       // nullptr where there is none
//   const ChatTemplate chat = library_chat_template("qwen2.5", template_variables("model"));
//   write_file_atomically("Modelfile", modelfile(*entry, "./model.gguf", {.go_template = true}));
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"

namespace serval {

struct LibraryTemplate {
  std::string_view name;
  std::vector<std::string_view> aliases;
  std::string_view file;  // of src/text/templates, without its ending
  std::string_view
      end_of_turn;  // the token that a model ends its answer with; "" where the tokenizer's EOS does
  std::string_view bos_token, eos_token;  // what the template writes where the tokenizer names none
  std::vector<std::string_view> stop;     // texts that end an answer, the end-of-turn token first
  std::string_view source() const;        // Jinja
  std::string_view go_template() const;
};

const std::vector<LibraryTemplate>& library_templates();
// By name or alias; upper and lower case and '_' for '-' or ' ' make no difference.
const LibraryTemplate* find_library_template(std::string_view name);
// Throws a UserError that names the nearest known one. `variables` are those of template_variables().
ChatTemplate library_chat_template(std::string_view name, Json variables);

// What a user calls a chat template: the path of a file or the name of a built-in one, with the special
// tokens of `directory`; where `named` is empty, the directory's own.
ChatTemplate open_chat_template(const std::string& named, const std::string& directory);
// The same of a name that is not empty, with the special tokens given.
ChatTemplate named_chat_template(const std::string& named, Json variables);
// The entry that `named` means; nullptr where it is a file.
const LibraryTemplate* built_in_template(const std::string& named);

struct ModelfileOptions {
  // Ollama reads the chat template out of a GGUF by itself; versions before May 2026 need the Go template.
  bool go_template = false;
  std::string system{};                             // system message, "" for none
  std::string adapter{};                            // path of a LoRA adapter in GGUF, "" for none
  double temperature = -1, top_p = -1, min_p = -1;  // below 0: Ollama's own
  int64_t context_length = 0;                       // 0: Ollama's own
};

// The text of an Ollama Modelfile for weights at `from`.
std::string modelfile(const LibraryTemplate& entry, const std::string& from,
                      const ModelfileOptions& options = {});

}  // namespace serval
