#include "data/train_mask.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/text.h"
#include "data/mask.h"
#include "data/shapes/messages.h"
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

// Whose turns alone are trained; empty: no mask by role.
std::vector<std::string> masked_roles(const MaskOptions& options) {
  if (options.train_on_inputs.value_or(false)) return {};
  std::vector<std::string> named;
  for (const std::string& role : options.train_on_roles) named.push_back(standard_role(role));
  if (!named.empty()) return named;
  const bool last_turn = options.last_turn_only && !by_texts(options);
  const bool answers = options.assistant_only_loss || last_turn || options.train_on_inputs.has_value() ||
                       options.ends != TurnEnds::as_written;
  return answers ? std::vector<std::string>{"assistant"} : std::vector<std::string>{};
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

// Ids of the tokens that end a turn.
std::vector<int32_t> end_ids(const MaskOptions& options, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (const std::string& token : options.eot_tokens) {
    const std::vector<int32_t> one = tokenizer.encode(token, {.add_special_tokens = false}).ids;
    if (one.size() != 1)
      fail_usage("eot_tokens: {} is {} tokens of this tokenizer, expected one, such as <|im_end|>",
                 in_quotes(token), one.size());
    ids.push_back(one[0]);
  }
  if (ids.empty() && tokenizer.eos_id()) ids.push_back(*tokenizer.eos_id());
  if (ids.empty())
    fail_usage("train_on_eos: the tokenizer names no end-of-text token; eot_tokens names what ends a turn");
  return ids;
}

// Bytes of the text's first `characters`.
size_t bytes_of_characters(std::string_view text, int64_t characters) {
  size_t at = 0;
  for (; at < text.size() && characters > 0; --characters)
    for (++at; at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;) ++at;
  return at;
}

// What one message says, as tokens.
struct Turn {
  MessageSpan span;
  const Json* message = nullptr;  // null: which one is not known
  std::vector<bool> inside;
  size_t end = 0;  // the token that ends the turn; none: no such token
};
constexpr size_t kNoEnd = std::numeric_limits<size_t>::max();

// The last of the tokens inside that ends a turn, or one of the next three, past what a template may put
// between.
size_t end_of_turn(const std::vector<bool>& inside, const std::vector<int32_t>& ids,
                   const std::vector<int32_t>& ends) {
  constexpr size_t kNear = 3;
  const auto is_end = [&](size_t i) { return std::find(ends.begin(), ends.end(), ids[i]) != ends.end(); };
  const size_t last = static_cast<size_t>(inside.rend() - std::find(inside.rbegin(), inside.rend(), true));
  for (size_t i = last; i-- > 0 && inside[i];)
    if (is_end(i)) return i;
  for (size_t i = last; i < std::min(last + kNear, ids.size()); ++i)
    if (is_end(i)) return i;
  return kNoEnd;
}

// The tokens of a turn that its train_detail leaves: those in its ranges, and what stands after the content.
std::vector<bool> tokens_of_detail(const Turn& turn, const Json::Array& detail, const std::string& text,
                                   const Encoding& tokens) {
  const Json* content = turn.message->find("content");
  const std::string& said = content->as_string();
  const std::string_view spoken =
      std::string_view(text).substr(static_cast<size_t>(turn.span.text.begin),
                                    static_cast<size_t>(turn.span.text.end - turn.span.text.begin));
  // Thoughts stand before the content and calls after it; either may repeat it.
  const size_t found = turn.message->contains("tool_calls") ? spoken.find(said) : spoken.rfind(said);
  if (said.empty() || found == std::string_view::npos)
    fail("message {} has a train_detail, but the template does not write its content as it stands",
         turn.span.message);
  const auto begin = turn.span.text.begin + static_cast<int64_t>(found);
  std::vector<TextSpan> spans;
  for (const Json& one : detail) {
    if (!one.at("train").as_bool()) continue;
    const size_t from = bytes_of_characters(said, one.at("begin_offset").as_int());
    const size_t to = bytes_of_characters(said, one.at("end_offset").as_int() + 1);
    if (from < to) spans.push_back({begin + static_cast<int64_t>(from), begin + static_cast<int64_t>(to)});
  }
  spans.push_back({begin + static_cast<int64_t>(said.size()), turn.span.text.end});
  return tokens_inside(text, tokens, spans);
}

}  // namespace

TurnEnds turn_ends_from_name(const std::string& name) {
  if (name == "turn") return TurnEnds::turn;
  if (name == "all") return TurnEnds::all;
  if (name == "last") return TurnEnds::last;
  if (name == "none") return TurnEnds::none;
  SERVAL_CHECK(name.empty());
  return TurnEnds::as_written;
}

bool completion_alone(const MaskOptions& options) {
  return options.completion_only_loss.value_or(!options.train_on_inputs.value_or(false));
}

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
  if (options.train_on_inputs.value_or(false) &&
      (options.assistant_only_loss || !options.train_on_roles.empty() ||
       options.completion_only_loss.value_or(false)))
    fail_usage(
        "train_on_inputs trains what assistant_only_loss, train_on_roles and completion_only_loss leave "
        "out; give one of them");
  if (options.ends != TurnEnds::as_written && !shape.chat)
    fail("{}: train_on_eos needs conversations; these rows are text", path);
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
  std::vector<std::string> roles = masked_roles(options);
  const bool with_ends = options.ends != TurnEnds::as_written;
  if (with_ends && roles.empty())  // every turn, but not what stands between them
    for (const Json& message : messages)
      if (const std::string& role = message.at("role").as_string(); !contains(roles, role))
        roles.push_back(role);
  std::vector<std::string> needed = roles;
  bool by_message = options.last_turn_only || with_ends;
  for (const Json& message : messages) {
    const bool own = message.contains("weight") || message.contains("train_detail");
    if (!own && options.ends != TurnEnds::all) continue;
    by_message = true;
    if (const std::string& role = message.at("role").as_string(); !contains(needed, role))
      needed.push_back(role);
  }
  const std::vector<int32_t> ends = with_ends ? end_ids(options, tokenizer) : std::vector<int32_t>{};
  std::vector<Turn> turns;
  int64_t last = -1;  // message of these roles
  const auto is_masked_role = [&](const Turn& turn) {
    return turn.message == nullptr || roles.empty() || contains(roles, turn.message->at("role").as_string());
  };
  for (MessageSpan& span : spans_of(chat, conversation, chat_template, needed, by_message)) {
    Turn turn{span, span.message < 0 ? nullptr : &messages[static_cast<size_t>(span.message)],
              tokens_inside(chat.text, tokens, std::span(&span.text, 1)), kNoEnd};
    if (with_ends) turn.end = end_of_turn(turn.inside, tokens.ids, ends);
    if (is_masked_role(turn)) last = std::max(last, span.message);
    turns.push_back(std::move(turn));
  }
  const auto left_out = [&](const Turn& turn) { return options.last_turn_only && turn.span.message != last; };

  if (!roles.empty()) {
    std::vector<bool> said(trained.size(), false);
    for (const Turn& turn : turns)
      if (is_masked_role(turn) && !left_out(turn))
        for (size_t i = 0; i < said.size(); ++i) said[i] = said[i] || turn.inside[i];
    leave_only(trained, said);
  }
  apply_responses(trained, tokens.ids, tokenizer, options);
  TokenWeights weights = weights_from(trained, options);
  const auto rest = static_cast<float>(options.prompt_loss_weight);
  size_t last_end = kNoEnd;
  bool any_end = false;
  for (const Turn& turn : turns) {
    const Json* own = turn.message == nullptr ? nullptr : turn.message->find("weight");
    const Json* detail = turn.message == nullptr ? nullptr : turn.message->find("train_detail");
    std::optional<float> weight;
    if (own != nullptr) weight = static_cast<float>(own->as_double());
    if (detail != nullptr && weight.value_or(1) > 0) weight = weight.value_or(1);
    const bool is_trained = weight ? *weight > 0 && !left_out(turn) : is_masked_role(turn) && !left_out(turn);
    if (weight && (*weight == 0 || is_trained)) {
      const std::vector<bool> kept = detail != nullptr && *weight > 0
                                         ? tokens_of_detail(turn, detail->as_array(), chat.text, tokens)
                                         : turn.inside;
      for (size_t i = 0; i < kept.size(); ++i)
        if (turn.inside[i]) weights[i] = kept[i] ? *weight : 0;
    }
    if (!with_ends) continue;
    any_end = any_end || turn.end != kNoEnd;
    if (turn.end == kNoEnd) continue;
    const bool wanted = options.ends == TurnEnds::all || (options.ends == TurnEnds::turn && is_trained);
    for (size_t i = turn.end; is_trained && i < weights.size() && (i == turn.end || turn.inside[i]); ++i)
      weights[i] = rest;
    if (wanted) weights[turn.end] = is_trained ? weight.value_or(1) : 1;
    if (is_trained) last_end = turn.end;
  }
  if (with_ends && !any_end && !turns.empty())
    fail("train_on_eos: no turn ends with a token of eot_tokens ({}); name the one that the template writes",
         options.eot_tokens.empty() ? "unset: the end-of-text token" : join(options.eot_tokens, ", "));
  if (options.ends == TurnEnds::last && last_end != kNoEnd) weights[last_end] = 1;
  return weights;
}

}  // namespace serval
