#include "data/train_mask.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "data/mask.h"
#include "text/chat_spans.h"

namespace serval {
namespace {

bool by_texts(const MaskOptions& options) {
  return !options.response_part.empty();
}

void leave_only(std::vector<bool>& trained, const std::vector<bool>& others) {
  for (size_t i = 0; i < trained.size(); ++i) trained[i] = trained[i] && others[i];
}

void apply_responses(std::vector<bool>& trained, const std::vector<int32_t>& ids, const Tokenizer& tokenizer,
                     const MaskOptions& options) {
  if (!by_texts(options)) return;
  const EncodeOptions as_written{.add_special_tokens = false};
  leave_only(trained, tokens_of_responses(ids, tokenizer.encode(options.instruction_part, as_written).ids,
                                          tokenizer.encode(options.response_part, as_written).ids,
                                          options.last_turn_only));
}

TokenWeights weights_from(const std::vector<bool>& trained, const MaskOptions& options) {
  TokenWeights weights(trained.size());
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = trained[i] ? 1.0f : static_cast<float>(options.prompt_loss_weight);
  return weights;
}

std::vector<std::string> masked_roles(const MaskOptions& options) {
  if (!options.train_on_roles.empty()) return options.train_on_roles;
  const bool last_turn = options.last_turn_only && !by_texts(options);
  return options.assistant_only_loss || last_turn ? std::vector<std::string>{"assistant"}
                                                  : std::vector<std::string>{};
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What messages of these roles say. `by_message`: each span is wanted with its message; else -1 will do.
std::vector<MessageSpan> spans_of(const RenderedChat& chat, const Json& conversation,
                                  const ChatTemplate& chat_template, const std::vector<std::string>& roles,
                                  bool by_message) {
  if (roles.empty()) return {};
  if (!by_message && chat_template.has_generation_spans() && roles == std::vector<std::string>{"assistant"}) {
    std::vector<MessageSpan> spans;
    for (const TextSpan& span : chat.generated) spans.push_back({-1, span});
    return spans;
  }
  AssistantSpans found = find_assistant_spans(chat_template, conversation, {.roles = roles});
  const auto unknown = [](const MessageSpan& s) { return s.message < 0; };
  if (by_message && std::any_of(found.spans.begin(), found.spans.end(), unknown))
    found = find_assistant_spans(chat_template, conversation, {.roles = roles, .use_marks = false});
  if (found.text != chat.text) fail("the chat template writes the same conversation differently each time");
  return std::move(found.spans);
}

}  // namespace

void check_mask_options(const MaskOptions& options, const DatasetShape& shape,
                        const ChatTemplate* chat_template, const std::string& path) {
  const bool has_completion = shape.has_prompt() || shape.kind == RowKind::tokenised;
  if (options.completion_only_loss.value_or(false) && !has_completion)
    fail("{}: completion_only_loss needs rows with a prompt and a completion; these have none", path);
  if (shape.chat && chat_template == nullptr)
    fail("{}: the rows are conversations, but the model has no chat template", path);
  if (options.assistant_only_loss && !shape.chat)
    fail("{}: assistant_only_loss needs conversations; these rows are text", path);
  if (!options.train_on_roles.empty() && !shape.chat)
    fail("{}: train_on_roles needs conversations; these rows are text", path);
  if (options.instruction_part.empty() != options.response_part.empty())
    fail_usage("instruction_part and response_part belong together: give both, or none");
}

TokenWeights weights_of_text(std::vector<bool> trained, const std::vector<int32_t>& ids,
                             const Tokenizer& tokenizer, const MaskOptions& options) {
  apply_responses(trained, ids, tokenizer, options);
  return weights_from(trained, options);
}

TokenWeights weights_of_chat(std::vector<bool> trained, const Json::Array& messages, const Json& conversation,
                             const RenderedChat& chat, const Encoding& tokens, const Tokenizer& tokenizer,
                             const ChatTemplate& chat_template, const MaskOptions& options) {
  const std::vector<std::string> roles = masked_roles(options);
  std::vector<std::string> needed = roles;
  bool by_message = options.last_turn_only;
  for (const Json& message : messages) {
    if (!message.contains("weight")) continue;
    by_message = true;
    if (const std::string& role = message.at("role").as_string(); !contains(needed, role))
      needed.push_back(role);
  }
  const std::vector<MessageSpan> speech = spans_of(chat, conversation, chat_template, needed, by_message);
  const auto is_masked_role = [&](const MessageSpan& s) {
    return s.message < 0 || contains(roles, messages[static_cast<size_t>(s.message)].at("role").as_string());
  };
  int64_t last = -1;
  for (const MessageSpan& s : speech)
    if (is_masked_role(s)) last = std::max(last, s.message);
  const auto left_out = [&](const MessageSpan& s) { return options.last_turn_only && s.message != last; };

  if (!roles.empty()) {
    std::vector<TextSpan> spans;
    for (const MessageSpan& s : speech)
      if (is_masked_role(s) && !left_out(s)) spans.push_back(s.text);
    leave_only(trained, tokens_inside(chat.text, tokens, spans));
  }
  apply_responses(trained, tokens.ids, tokenizer, options);
  TokenWeights weights = weights_from(trained, options);
  for (const MessageSpan& s : speech) {
    const Json* own = s.message < 0 ? nullptr : messages[static_cast<size_t>(s.message)].find("weight");
    if (own == nullptr) continue;
    const auto weight = static_cast<float>(own->as_double());
    if (weight > 0 && left_out(s)) continue;
    const std::vector<bool> inside = tokens_inside(chat.text, tokens, std::span(&s.text, 1));
    for (size_t i = 0; i < inside.size(); ++i)
      if (inside[i]) weights[i] = weight;
  }
  return weights;
}

}  // namespace serval
