// A model's chat template: a conversation becomes the text that the model was trained on, with the byte
// ranges that the assistant wrote where the template marks them with {% generation %}.
//
//   ChatTemplate chat = ChatTemplate::from_directory("model");
//   Json conversation = Json::object();
//   conversation.set("messages", messages);          // other keys ("tools", ...) become template variables
//   RenderedChat r = chat.render(conversation, {.add_generation_prompt = true});
//
// Rendering equals Python's jinja2 as `transformers` sets it up (ImmutableSandboxedEnvironment, trim_blocks,
// lstrip_blocks, loop controls, {% generation %}); it cannot reach files or the network, and has limits on
// steps, depth, output size and memory. A ChatTemplate is immutable and may be used by several threads at
// once.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace serval {

struct RenderOptions {
  bool add_generation_prompt = false;
  // The last message stays open, so that a model goes on with it: the text ends with its value of this key
  // ("content" as a rule). Not together with add_generation_prompt.
  std::string continue_final_message{};
  std::optional<int64_t> now;  // Unix time that strftime_now shows; the system's clock where absent
};

struct TextSpan {
  int64_t begin = 0, end = 0;  // bytes of RenderedChat::text
  friend bool operator==(const TextSpan&, const TextSpan&) = default;
};

struct RenderedChat {
  std::string text;
  std::vector<TextSpan> generated;  // inside {% generation %}, in order
  // Of each of them: the index of the message that was being written, -1 where that cannot be told.
  std::vector<int64_t> generated_messages{};
};

class ChatTemplate {
 public:
  // The template of that name in text/template_set.h, which says where it is looked for.
  static ChatTemplate from_directory(const std::string& directory, const std::string& name = "");
  static bool exists_in(const std::string& directory);
  // `variables` are set for every rendering (bos_token, eos_token, ...). Errors carry `where`, line and
  // column.
  ChatTemplate(std::string_view source, Json variables, const std::string& where);

  // Throws UserError where the template refuses the conversation (raise_exception) or fails, with its line.
  RenderedChat render(const Json& conversation, const RenderOptions& options = {}) const;
  bool has_generation_spans() const;  // the source holds a {% generation %} block
  const std::string& where() const;   // as given, for messages
  const std::string& source() const;  // as given
  // A variable that is set for every rendering, "" where it is absent or no text.
  std::string variable(std::string_view name) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;  // copies share it
};

}  // namespace serval
