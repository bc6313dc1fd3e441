// A model ready to answer: weights, tokenizer, template and cache, shared by `generate` and `chat`.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "config/arguments.h"
#include "generate/generator.h"
#include "models/pretrained.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

class Conversationalist {
 public:
  explicit Conversationalist(const Settings& settings);

  // The answer to a prompt text (already rendered, or raw); `on_text` gets it piece by piece.
  std::string answer(const std::string& prompt, bool add_special_tokens,
                     const std::function<void(std::string_view)>& on_text);
  // The prompt of a conversation that ends with a user's message.
  std::string render(const Json& messages) const;
  bool has_template() const { return template_.has_value(); }

 private:
  std::unique_ptr<Device> device_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
  std::unique_ptr<Generator> generator_;
  Sampling sampling_;
  std::vector<std::string> stop_texts_;
};

}  // namespace serval
