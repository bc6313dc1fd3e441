// A model ready to answer: weights, tokenizer, template and cache, shared by `generate` and `chat`.
//
//   Conversationalist model(settings);
//   model.load();
//   model.answer(model.render(messages), false, show);
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/arguments.h"
#include "generate/generator.h"
#include "models/pretrained.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

class Conversationalist {
 public:
  // Opens the model and its tokenizer; nothing is answered before load().
  explicit Conversationalist(const Settings& settings);
  // Reads the weights. The cache holds `sequences` answers at a time to prompts of at most `longest_prompt`
  // tokens; a longer one is refused.
  void load(int64_t sequences = 1, int64_t longest_prompt = 4096);

  // The answer to a prompt text (already rendered, or raw); `on_text` gets it piece by piece.
  std::string answer(const std::string& prompt, bool add_special_tokens,
                     const std::function<void(std::string_view)>& on_text);
  // Answers all prompts, as many at a time as load() was told; `on_answer` gets the index of each and its
  // answer as soon as it is complete.
  void answer_all(std::span<const std::vector<int32_t>> prompts,
                  const std::function<void(size_t, const std::string&)>& on_answer);
  std::vector<int32_t> encode(const std::string& prompt, bool add_special_tokens) const;
  // The prompt of a conversation that ends with a user's message.
  std::string render(const Json& messages) const;
  bool has_template() const { return template_.has_value(); }
  bool on_gpu() const { return device_->kind() != DeviceKind::cpu; }

 private:
  std::unique_ptr<Device> device_;
  Pretrained model_;
  bool check_nan_ = false;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
  std::unique_ptr<Generator> generator_;
  Sampling sampling_;
  std::vector<std::string> stop_texts_;
};

}  // namespace serval
