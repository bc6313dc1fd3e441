#include "data/preference_example.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "data/mask.h"

namespace serval {
namespace {

class PassageTokens {
 public:
  PassageTokens(const Json& context, bool chat, const Tokenizer& tokenizer, const ChatTemplate* chat_template)
      : context_(context), chat_(chat), tokenizer_(tokenizer), chat_template_(chat_template) {
    SERVAL_CHECK(!chat || chat_template != nullptr);
  }

  std::vector<int32_t> prompt(const Passage& prompt) const {
    return chat_ ? rendered(prompt.messages, true) : encoded(prompt.text);
  }

  std::vector<int32_t> whole(const Passage& prompt, const Passage& answer) const {
    if (!chat_) return encoded(prompt.text + with_end_of_text(answer.text, tokenizer_));
    Json::Array messages = prompt.messages;
    messages.insert(messages.end(), answer.messages.begin(), answer.messages.end());
    return rendered(messages, false);
  }

 private:
  std::vector<int32_t> encoded(const std::string& text) const {
    std::vector<int32_t> ids = tokenizer_.encode(text).ids;
    remove_double_bos(ids, tokenizer_);
    return ids;
  }

  std::vector<int32_t> rendered(const Json::Array& messages, bool generation_prompt) const {
    const Json conversation = conversation_for_template(messages, context_);
    const RenderedChat chat =
        chat_template_->render(conversation, {.add_generation_prompt = generation_prompt});
    // A template writes every special token itself.
    std::vector<int32_t> ids = tokenizer_.encode(chat.text, {.add_special_tokens = false}).ids;
    remove_double_bos(ids, tokenizer_);
    return ids;
  }

  const Json& context_;
  bool chat_;
  const Tokenizer& tokenizer_;
  const ChatTemplate* chat_template_;
};

std::vector<int32_t> from(const std::vector<int32_t>& ids, size_t begin) {
  return {ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end()};
}

}  // namespace

PreferenceIds tokenize_preference(const PreferenceRow& row, const Json& context, bool chat,
                                  const Tokenizer& tokenizer, const ChatTemplate* chat_template) {
  const PassageTokens tokens(context, chat, tokenizer, chat_template);
  PreferenceIds result;
  result.prompt = tokens.prompt(row.prompt);
  const std::vector<int32_t> chosen = tokens.whole(row.prompt, row.chosen),
                             rejected = tokens.whole(row.prompt, row.rejected);
  const size_t length =
      std::min(common_prefix(result.prompt, chosen), common_prefix(result.prompt, rejected));
  result.boundary_mismatch = length < result.prompt.size();
  result.prompt.resize(length);
  result.chosen = from(chosen, length);
  result.rejected = from(rejected, length);
  return result;
}

CompletionIds tokenize_unpaired(const UnpairedRow& row, const Json& context, bool chat,
                                const Tokenizer& tokenizer, const ChatTemplate* chat_template) {
  const PassageTokens tokens(context, chat, tokenizer, chat_template);
  CompletionIds result;
  result.prompt = tokens.prompt(row.prompt);
  const std::vector<int32_t> whole = tokens.whole(row.prompt, row.completion);
  const size_t length = common_prefix(result.prompt, whole);
  result.boundary_mismatch = length < result.prompt.size();
  result.prompt.resize(length);
  result.completion = from(whole, length);
  return result;
}

std::vector<int32_t> tokenize_prompt(const PromptRow& row, const Json& context, bool chat,
                                     const Tokenizer& tokenizer, const ChatTemplate* chat_template) {
  return PassageTokens(context, chat, tokenizer, chat_template).prompt(row.prompt);
}

std::optional<AnswerIds> join_answer(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer,
                                     int64_t max_length, Truncation truncation) {
  AnswerIds result{prompt, static_cast<int64_t>(prompt.size())};
  result.ids.insert(result.ids.end(), answer.begin(), answer.end());
  const auto length = static_cast<int64_t>(result.ids.size());
  if (max_length <= 0 || length <= max_length) return result;
  if (truncation == Truncation::drop) return std::nullopt;
  if (truncation == Truncation::keep_end) {
    result.ids = from(result.ids, static_cast<size_t>(length - max_length));
    result.prompt_tokens = std::max<int64_t>(0, result.prompt_tokens - (length - max_length));
    return result;
  }
  if (result.prompt_tokens >= max_length) return std::nullopt;
  result.ids.resize(static_cast<size_t>(max_length));
  return result;
}

}  // namespace serval
