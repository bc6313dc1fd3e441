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
  std::optional<int64_t> now;  // Unix time that strftime_now shows; the system's clock where absent
};

struct TextSpan {
  int64_t begin = 0, end = 0;  // bytes of RenderedChat::text
  friend bool operator==(const TextSpan&, const TextSpan&) = default;
};

struct RenderedChat {
  std::string text;
  std::vector<TextSpan> generated;  // inside {% generation %}, in order
};

class ChatTemplate {
 public:
  // chat_template.jinja, else "chat_template" of tokenizer_config.json (a string, or a list of {name,
  // template} of which "default" is taken). bos_token, eos_token and so on come from tokenizer_config.json.
  static ChatTemplate from_directory(const std::string& directory);
  static bool exists_in(const std::string& directory);
  // `variables` are set for every rendering (bos_token, eos_token, ...). Errors carry `where`, line and
  // column.
  ChatTemplate(std::string_view source, Json variables, const std::string& where);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Throws UserError where the template refuses the conversation (raise_exception) or fails, with its line.
  RenderedChat render(const Json& conversation, const RenderOptions& options = {}) const;
  bool has_generation_spans() const;  // the source holds a {% generation %} block

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace serval
