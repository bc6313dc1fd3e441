#include "data/convert.h"

#include <utility>

#include "base/error.h"
#include "data/shapes/messages.h"

namespace serval {
namespace {

Json passage_json(const Passage& passage, bool chat) {
  return chat ? Json(passage.messages) : Json(passage.text);
}

// Text that was no messages becomes what one side says.
Json::Array as_messages(const Passage& passage, bool chat, const char* role) {
  if (chat) return passage.messages;
  if (passage.text.empty()) return {};
  return {make_message(role, passage.text)};
}

void set_context(Json& result, const TrainingRow& row) {
  Json extra = Json::object();
  for (const auto& [name, value] : row.context.as_object()) {
    if (name == "tools" || name == "documents")
      result.set(name, value);
    else
      extra.set(name, value);
  }
  if (extra.size() > 0) result.set("chat_template_kwargs", std::move(extra));
}

Json flags_json(const std::vector<bool>& flags) {
  Json list = Json::array();
  for (const bool flag : flags) list.push_back(Json(flag));
  return list;
}

struct SameShape {
  const TrainingRow& row;
  bool chat;
  Json result = Json::object();

  void operator()(const TextRow& text) { result.set("text", Json(text.text)); }
  void operator()(const PromptCompletionRow& pair) {
    if (chat) {
      Json::Array messages = pair.prompt.messages;
      messages.insert(messages.end(), pair.completion.messages.begin(), pair.completion.messages.end());
      remove_weights(messages);
      result.set("messages", Json(std::move(messages)));
    } else {
      result.set("prompt", Json(pair.prompt.text));
      result.set("completion", Json(pair.completion.text));
    }
  }
  void operator()(const ConversationRow& conversation) {
    result.set("messages", Json(conversation.messages));
  }
  void operator()(const SegmentsRow& segments) {
    Json list = Json::array();
    for (const auto& segment : segments.segments) {
      Json one = Json::object();
      one.set("label", Json(segment.trained));
      one.set("text", Json(segment.text));
      list.push_back(std::move(one));
    }
    result.set("segments", std::move(list));
  }
  void operator()(const TokenisedRow& tokens) {
    Json ids = Json::array(), labels = Json::array();
    for (size_t i = 0; i < tokens.ids.size(); ++i) {
      const Json id(int64_t{tokens.ids[i]});
      ids.push_back(id);
      labels.push_back(tokens.trained[i] ? id : Json(-100));
    }
    result.set("input_ids", std::move(ids));
    result.set("labels", std::move(labels));
    if (tokens.has_completion_mask) result.set("completion_mask", flags_json(tokens.completion));
  }
  void operator()(const PreferenceRow& pair) {
    result.set("prompt", passage_json(pair.prompt, chat));
    result.set("chosen", passage_json(pair.chosen, chat));
    result.set("rejected", passage_json(pair.rejected, chat));
    if (pair.margin) result.set("margin", Json(*pair.margin));
    if (pair.chosen_score) result.set("chosen_score", Json(*pair.chosen_score));
    if (pair.rejected_score) result.set("rejected_score", Json(*pair.rejected_score));
  }
  void operator()(const UnpairedRow& answer) {
    result.set("prompt", passage_json(answer.prompt, chat));
    result.set("completion", passage_json(answer.completion, chat));
    result.set("label", Json(answer.desirable));
  }
  void operator()(const PromptRow& prompt) {
    result.set("prompt", passage_json(prompt.prompt, chat));
    for (const auto& [name, value] : row.extra.as_object()) result.set(name, value);
  }
  void operator()(const StepwiseRow& steps) {
    Json list = Json::array();
    for (const std::string& step : steps.steps) list.push_back(Json(step));
    result.set("prompt", Json(steps.prompt));
    result.set("completions", std::move(list));
    result.set("labels", flags_json(steps.correct));
  }
};

// The row as a prompt and its answer; `wanted` is false where it has no place in the result.
struct Exchange {
  Json::Array prompt, answer;
  bool wanted = true;
};

Exchange exchange_of(const TrainingRow& row, const DatasetShape& shape, const std::string& where) {
  const bool chat = shape.chat;
  if (const auto* pair = std::get_if<PromptCompletionRow>(&row.body))
    return {as_messages(pair->prompt, chat, "user"), as_messages(pair->completion, chat, "assistant")};
  if (const auto* pair = std::get_if<PreferenceRow>(&row.body))
    return {as_messages(pair->prompt, chat, "user"), as_messages(pair->chosen, chat, "assistant")};
  if (const auto* answer = std::get_if<UnpairedRow>(&row.body))
    return {as_messages(answer->prompt, chat, "user"), as_messages(answer->completion, chat, "assistant"),
            answer->desirable};
  if (const auto* prompt = std::get_if<PromptRow>(&row.body))
    return {as_messages(prompt->prompt, chat, "user"), {}};
  if (const auto* conversation = std::get_if<ConversationRow>(&row.body)) return {conversation->messages, {}};
  fail("{}: a row of {} cannot be written as messages; leave out --to", where,
       row.kind() == RowKind::text        ? "plain text"
       : row.kind() == RowKind::tokenised ? "token ids"
       : row.kind() == RowKind::segments  ? "segments"
                                          : "steps");
}

}  // namespace

Json converted_row(const TrainingRow& row, const DatasetShape& shape, ConvertTo to,
                   const std::string& where) {
  Json result = Json::object();
  if (to == ConvertTo::same) {
    SameShape same{row, shape.chat};
    std::visit(same, row.body);
    result = std::move(same.result);
  } else {
    Exchange exchange = exchange_of(row, shape, where);
    if (!exchange.wanted) return {};
    if (to == ConvertTo::messages) {
      const bool whole = row.kind() == RowKind::conversation;
      Json::Array messages = std::move(exchange.prompt);
      messages.insert(messages.end(), exchange.answer.begin(), exchange.answer.end());
      if (!whole) remove_weights(messages);
      if (messages.empty()) fail("{}: the row says nothing, so it makes no conversation", where);
      result.set("messages", Json(std::move(messages)));
    } else {
      if (exchange.answer.empty()) {
        if (exchange.prompt.empty() || exchange.prompt.back().at("role") != Json("assistant"))
          fail("{}: the row does not end with the assistant's answer, so it has no completion", where);
        exchange.answer = {exchange.prompt.back()};
        exchange.prompt.pop_back();
      }
      remove_weights(exchange.prompt);
      remove_weights(exchange.answer);
      result.set("prompt", Json(std::move(exchange.prompt)));
      result.set("completion", Json(std::move(exchange.answer)));
    }
  }
  set_context(result, row);
  return result;
}

}  // namespace serval
