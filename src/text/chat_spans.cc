#include "text/chat_spans.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

using Text = std::optional<std::string>;  // absent where the template refuses

// Neither their first nor their last letters are the same, also once a template changes their case.
constexpr std::array<const char*, 2> kMarkers = {"Qv7markerone0W", "Zk3othermark1X"};
constexpr std::string_view kThinkEnd = "</think>";

size_t common_start(std::string_view a, std::string_view b) {
  const size_t n = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n), b.begin()).first - a.begin());
}

size_t common_end(std::string_view a, std::string_view b) {
  const size_t n = std::min(a.size(), b.size());
  size_t i = 0;
  while (i < n && a[a.size() - 1 - i] == b[b.size() - 1 - i]) i++;
  return i;
}

bool is_blank(std::string_view text) {
  return trim(text).empty();
}

// Cuts a token off that ends beyond the text: "<|im_start|>assistant<|" becomes "<|im_start|>assistant".
std::string_view without_open_tag(std::string_view text) {
  for (const char* pair : {"<>", "[]"}) {
    const size_t open = text.rfind(pair[0]), close = text.rfind(pair[1]);
    if (open != std::string_view::npos && (close == std::string_view::npos || close < open))
      text = text.substr(0, open);
  }
  return text;
}

// Without the tag that opens the answer's reasoning ("<think>\n", "[THINK]"): a prompt may write it already,
// but it is the answer's.
std::string_view without_open_thought(std::string_view text) {
  const std::string_view end = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
  if (!ends_with(end, ">") && !ends_with(end, "]")) return text;
  const size_t open = end.rfind(end.back() == '>' ? '<' : '[');
  if (open == std::string_view::npos) return text;
  std::string tag(end.substr(open));
  for (char& c : tag) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool closes = tag.find('/') != std::string::npos || tag.find("end") != std::string::npos;
  return tag.find("think") != std::string::npos && !closes ? text.substr(0, open) : text;
}

// The bytes of the special token ("<|user|>") that `text` begins with, after blanks; 0 where there is none.
size_t leading_token(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || !starts_with(text.substr(begin), "<|")) return 0;
  const size_t end = text.find("|>", begin + 2);
  const bool is_token = end != std::string_view::npos &&
                        text.substr(begin, end - begin).find_first_of(" \n") == std::string_view::npos;
  return is_token ? end + 2 : 0;
}

// Whether an answer is its content alone.
bool is_plain(const Json& message) {
  for (const char* key : {"tool_calls", "reasoning_content", "reasoning", "thinking"})
    if (const Json* value = message.find(key); value != nullptr && !value->is_null()) return false;
  return true;
}

std::string role_of(const Json& message) {
  const Json* role = message.is_object() ? message.find("role") : nullptr;
  return role != nullptr && role->is_string() ? role->as_string() : "";
}

// Reasoning that the content itself holds stays, so that a template that looks for it takes the same way.
std::string marked_text(const std::string& text, const char* marker) {
  const size_t end = text.rfind(kThinkEnd);
  if (end == std::string::npos) return marker;
  const size_t content = text.find_first_not_of(" \t\r\n", end + kThinkEnd.size());
  return content == std::string::npos ? text + marker : text.substr(0, content) + marker;
}

// What of a message a marker can replace, in the order in which they are tried.
enum class Probe : uint8_t { content, arguments, name, no_content };
constexpr std::array kProbes = {Probe::content, Probe::arguments, Probe::name, Probe::no_content};

bool mark_content(Json& message, const char* marker) {
  Json* content = message.find("content");
  if (content == nullptr) return false;
  if (content->is_string() && !is_blank(content->as_string())) {
    *content = Json(marked_text(content->as_string(), marker));
    return true;
  }
  bool any = false;
  if (content->is_array())
    for (Json& part : content->as_array()) {
      Json* text = part.is_object() ? part.find("text") : nullptr;
      if (text == nullptr || !text->is_string() || is_blank(text->as_string())) continue;
      *text = Json(marked_text(text->as_string(), marker));
      any = true;
    }
  return any;
}

// The last tool call: a text among its arguments, or its name.
bool mark_call(Json& message, Probe probe, const char* marker) {
  Json* calls = message.find("tool_calls");
  if (calls == nullptr || !calls->is_array() || calls->size() == 0) return false;
  Json* call = &calls->as_array().back();
  if (!call->is_object()) return false;
  if (Json* function = call->find("function"); function != nullptr && function->is_object()) call = function;
  Json* part = call->find(probe == Probe::name ? "name" : "arguments");
  if (part == nullptr) return false;
  if (part->is_string()) {
    *part = Json(marker);
    return true;
  }
  if (!part->is_object()) return false;
  auto& members = part->as_object();
  const auto text =
      std::find_if(members.rbegin(), members.rend(), [](const auto& m) { return m.second.is_string(); });
  if (text == members.rend()) return false;
  text->second = Json(marker);
  return true;
}

// False where the message has no such part.
bool put_marker(Json& message, Probe probe, const char* marker) {
  if (probe == Probe::content) return mark_content(message, marker);
  if (probe != Probe::no_content) return mark_call(message, probe, marker);
  const Json* content = message.find("content");
  const bool empty =
      content == nullptr || content->is_null() || (content->is_string() && content->as_string().empty());
  if (empty) message.set("content", Json(marker));
  return empty;
}

// Where the marked part of a message stands.
struct Region {
  enum class State : uint8_t { found, unwritten, unknown } state = State::unknown;
  size_t begin = 0, end = 0;
  Probe probe = Probe::content;
};

class Finder {
 public:
  Finder(const ChatTemplate& chat, const Json& conversation, const SpanOptions& options)
      : chat_(chat), conversation_(conversation), options_(options) {
    messages_ = &conversation.at("messages").as_array();
    eos_ = chat.variable("eos_token");
    if (const Json* own = conversation.find("eos_token"); own != nullptr && own->is_string())
      eos_ = own->as_string();
  }

  AssistantSpans run() {
    const RenderedChat rendered = chat_.render(conversation_, options_.render);
    full_ = rendered.text;
    AssistantSpans result;
    for (const int64_t i : wanted()) {
      if (options_.use_marks && chat_.has_generation_spans() && role_of(message(i)) == "assistant") continue;
      find(i, result);
    }
    if (options_.use_marks && chat_.has_generation_spans()) add_marks(rendered, result);
    std::sort(result.spans.begin(), result.spans.end(), [](const MessageSpan& a, const MessageSpan& b) {
      return a.text.begin != b.text.begin ? a.text.begin < b.text.begin : a.message < b.message;
    });
    for (size_t k = 1; k < result.spans.size(); k++) {
      const MessageSpan &a = result.spans[k - 1], &b = result.spans[k];
      if (a.text.end > b.text.begin || a.message > b.message)
        refuse(b.message, "its text and that of message " + std::to_string(a.message) + " are not apart");
    }
    result.text = std::move(full_);
    return result;
  }

 private:
  const Json& message(int64_t i) const { return (*messages_)[static_cast<size_t>(i)]; }
  int64_t count() const { return static_cast<int64_t>(messages_->size()); }

  std::vector<int64_t> wanted() const {
    std::vector<int64_t> indexes;
    for (int64_t i = 0; i < count(); i++) {
      const std::string role = role_of(message(i));
      const auto& roles = options_.roles;
      if (!roles.empty() && std::find(roles.begin(), roles.end(), role) == roles.end()) continue;
      if (options_.last_turn_only) indexes.clear();
      indexes.push_back(i);
    }
    return indexes;
  }

  [[noreturn]] void refuse(int64_t i, const std::string& why) const {
    fail("{}: the text of message {} ({}) cannot be told from the rest: {}", chat_.where(), i,
         role_of(message(i)), why);
  }

  void add_marks(const RenderedChat& rendered, AssistantSpans& result) {
    const std::vector<int64_t> indexes = wanted();
    const auto& roles = options_.roles;
    const bool wants_assistant =
        roles.empty() || std::find(roles.begin(), roles.end(), "assistant") != roles.end();
    if (!wants_assistant) return;
    // A mark outside of any loop over the messages belongs to the answer before it (a last end token).
    int64_t latest = 0;
    for (int64_t i = 0; i < count(); i++)
      if (role_of(message(i)) == "assistant") latest = i;
    for (size_t k = 0; k < rendered.generated.size(); k++) {
      const TextSpan span = rendered.generated[k];
      const int64_t i = rendered.generated_messages[k] >= 0 ? rendered.generated_messages[k] : latest;
      latest = i;
      if (span.begin < span.end && std::find(indexes.begin(), indexes.end(), i) != indexes.end())
        result.spans.push_back({i, span});
    }
  }

  Text render(const Json::Array& messages, bool prompt) const {
    Json part = conversation_;
    part.set("messages", Json(messages));
    part.erase("add_generation_prompt");
    RenderOptions options = options_.render;
    options.continue_final_message.clear();
    options.add_generation_prompt = prompt;
    try {
      return chat_.render(part, options).text;
    } catch (const UserError&) {
      return std::nullopt;
    }
  }

  // The first `n` messages alone.
  const Text& prefix(int64_t n, bool prompt) {
    const auto key = std::make_pair(n, prompt);
    auto at = prefixes_.find(key);
    if (at == prefixes_.end()) {
      Text text;
      // A conversation without messages is nothing that templates are made for.
      if (n > 0) text = render(Json::Array(messages_->begin(), messages_->begin() + n), prompt);
      at = prefixes_.emplace(key, std::move(text)).first;
    }
    return at->second;
  }

  // Where message `i` stands in `text`, the rendering of the first `n` messages: by the first probe that
  // tells.
  Region region(int64_t i, int64_t n, const std::string& text) const {
    bool unwritten = false;
    for (const Probe probe : kProbes) {
      const Region tried = region(i, n, text, probe);
      if (tried.state == Region::State::found) return tried;
      unwritten = unwritten || (tried.state == Region::State::unwritten && probe != Probe::no_content);
    }
    return unwritten ? Region{Region::State::unwritten} : Region{};
  }

  Region region(int64_t i, int64_t n, const std::string& text, Probe probe) const {
    std::array<Text, 2> marked;
    for (size_t k = 0; k < 2; k++) {
      Json::Array messages(messages_->begin(), messages_->begin() + n);
      if (!put_marker(messages[static_cast<size_t>(i)], probe, kMarkers[k])) return {};
      marked[k] = render(messages, n == count() && options_.render.add_generation_prompt);
      if (!marked[k]) return {};
    }
    const std::string &a = *marked[0], &b = *marked[1];
    if (a == b) return {Region::State::unwritten};
    const size_t begin = common_start(a, b), after = common_end(a, b);
    if (begin + after > text.size() || text.compare(0, begin, a, 0, begin) != 0 ||
        text.compare(text.size() - after, after, a, a.size() - after, after) != 0)
      return {};
    return {Region::State::found, begin, text.size() - after, probe};
  }

  void find(int64_t i, AssistantSpans& result) {
    const bool is_assistant = role_of(message(i)) == "assistant";
    std::optional<size_t> begin = is_assistant ? begin_by_prefix(i) : std::nullopt;
    std::optional<size_t> end = end_by_prefix(i);
    const bool asks = options_.verify || !begin || !end;
    const Region here = asks ? region(i, count(), full_) : Region{};
    if (here.state == Region::State::unwritten) {
      result.unwritten.push_back(i);
      return;
    }
    if (here.state == Region::State::found) {
      const Local local = look_around(i, here);
      if (local.end && end && *local.end != *end) refuse(i, "two ways to find its end disagree");
      if (!end) end = local.end;
      if (!is_assistant) {
        begin = here.begin;
        if (!end) end = here.end;
      } else if (begin && local.begin && exact_begin_ && *local.begin != *begin) {
        refuse(i, "two ways to find its beginning disagree");
      } else if (!begin || (!exact_begin_ && local.begin)) {
        begin = local.begin;
      }
      if (!begin) begin = begin_by_prompt(i, here);
      if (begin && !exact_begin_) begin = std::min(*begin, here.begin);
      const bool repeated = end && here.end > *end;  // a result may repeat the name of its call
      if (repeated && here.probe == Probe::content)
        refuse(i, "the template writes its content in more than one place");
    } else if (!is_assistant && !begin) {
      const Text& before = prefix(i, false);
      if (i == 0) begin = 0;
      if (before && starts_with(full_, *before)) begin = before->size();
    }
    if (!begin || !end || *begin > *end)
      refuse(i, fmt::format("the template writes {} differently when more messages follow, and {}",
                            !end ? "it" : "what comes before it",
                            here.state == Region::State::found ? "not all of the difference is in its content"
                                                               : "it has no content of its own to look for"));
    if (is_assistant && i + 1 < count() && has_no_end(i))
      *end += leading_token(std::string_view(full_).substr(*end));
    result.spans.push_back({i, {static_cast<int64_t>(*begin), static_cast<int64_t>(*end)}});
  }

  // Whether the template writes nothing after an answer. Then it is the token of the next turn that a model
  // stops with, as GLM's "<|user|>" and "<|observation|>".
  bool has_no_end(int64_t i) const {
    Json::Array messages(messages_->begin(), messages_->begin() + i);
    messages.push_back(plain_answer());
    const Text text = render(messages, false);
    return text && ends_with(*text, kMarkers[0]);
  }

  // What a template adds after the messages to prompt an answer, told from the messages before `i`.
  std::string generation_prompt(int64_t i) {
    const Text &open = prefix(i, true), &closed = prefix(i, false);
    if (!open || !closed) return {};
    for (const std::string& base : {*closed, without_eos(*closed)})
      if (starts_with(*open, base)) return open->substr(base.size());
    return {};
  }

  std::string without_eos(const std::string& text) const {
    return !eos_.empty() && ends_with(text, eos_) ? text.substr(0, text.size() - eos_.size()) : text;
  }

  // Where the answer of message `i` begins; sets exact_begin_ to whether a whole generation prompt ends
  // there.
  std::optional<size_t> begin_by_prefix(int64_t i) {
    exact_begin_ = false;
    const Text &open = prefix(i, true), &closed = prefix(i, false);
    if (!open) return std::nullopt;
    const bool prompts = !closed || *open != *closed;
    if (const std::string_view header = without_open_thought(*open); prompts && starts_with(full_, header)) {
      exact_begin_ = true;
      return header.size();
    }
    if (!closed) return std::nullopt;
    std::string base = *closed;
    if (!starts_with(full_, base) || (prompts && !starts_with(*open, base))) base = without_eos(base);
    if (!starts_with(full_, base)) return std::nullopt;
    // The prompt holds more than the history does ("<think>"), or the template has no prompt at all: the
    // header is what comes before any plain answer in the same place.
    const std::string head = plain_header(i, base);
    if (!prompts && is_blank(head)) {
      exact_begin_ = true;
      return base.size();
    }
    std::string_view shared = head;
    shared = shared.substr(0, common_start(head, std::string_view(full_).substr(base.size())));
    if (prompts && starts_with(*open, base))
      shared = shared.substr(0, common_start(shared, std::string_view(*open).substr(base.size())));
    shared = without_open_tag(shared);
    return shared.empty() ? std::nullopt : std::optional<size_t>(base.size() + shared.size());
  }

  // Where nothing before the message renders as in the whole: the nearest generation prompt before its
  // content, known from elsewhere in the conversation; a template without one starts with the content.
  std::optional<size_t> begin_by_prompt(int64_t i, const Region& here) {
    if (!is_plain(message(i)) && here.probe == Probe::content) return std::nullopt;
    std::string prompt;
    for (int64_t k = 1; k <= count() && prompt.empty(); k++)
      if (role_of(message(k - 1)) != "assistant") prompt = generation_prompt(k);
    prompt = without_open_thought(prompt);
    if (prompt.empty()) return is_plain(message(i)) ? std::optional<size_t>(here.begin) : std::nullopt;
    const Region before = i > 0 ? region(i - 1, count(), full_) : Region{};
    const size_t least = before.state == Region::State::found ? before.end : 0;
    // What a prompt opens at its end ("<think>") may be missing in the history.
    for (; !prompt.empty(); prompt.resize(std::max(prompt.rfind('<') + 1, size_t{1}) - 1)) {
      const size_t at = std::string_view(full_).substr(0, here.begin).rfind(prompt);
      if (at != std::string::npos && at >= least) return at + prompt.size();
    }
    return std::nullopt;
  }

  static Json plain_answer() {
    Json plain = Json::object();
    plain.set("role", "assistant");
    plain.set("content", kMarkers[0]);
    return plain;
  }

  std::string plain_header(int64_t i, const std::string& base) const {
    Json::Array messages = *messages_;
    messages[static_cast<size_t>(i)] = plain_answer();
    const Text text = render(messages, false);
    if (!text || !starts_with(*text, base)) return {};
    const size_t at = text->find(kMarkers[0], base.size());
    return at == std::string::npos ? "" : text->substr(base.size(), at - base.size());
  }

  std::optional<size_t> end_by_prefix(int64_t i) {
    const Text& closed = prefix(i + 1, false);
    if (closed && starts_with(full_, *closed)) return closed->size();
    if (i + 1 == count()) return std::nullopt;
    if (closed) {
      const std::string open_end = without_eos(*closed);
      if (open_end.size() < closed->size() && starts_with(full_, open_end)) return open_end.size();
    }
    // Up to the prompt for another answer, whose text is known from the messages before.
    const Text& open = prefix(i + 1, true);
    const std::string prompt = generation_prompt(i);
    if (!open || prompt.empty() || !ends_with(*open, prompt)) return std::nullopt;
    const std::string_view start = std::string_view(*open).substr(0, open->size() - prompt.size());
    return starts_with(full_, start) ? std::optional<size_t>(start.size()) : std::nullopt;
  }

  struct Local {
    std::optional<size_t> begin, end;
  };

  // What stands around the content where message `i` is the last one, looked for around it in the whole.
  Local look_around(int64_t i, const Region& here) {
    Local local;
    const Text& alone = prefix(i + 1, false);
    const Text& open = prefix(i, true);
    if (!alone) return local;
    const Region there = region(i, i + 1, *alone);
    if (there.state != Region::State::found) return local;
    const std::string_view tail = std::string_view(*alone).substr(there.end);
    if (starts_with(std::string_view(full_).substr(here.end), tail)) local.end = here.end + tail.size();
    const std::string_view header = open ? without_open_thought(*open) : std::string_view();
    if (header.empty() || !starts_with(*alone, header) || header.size() > there.begin) return local;
    const std::string_view head = std::string_view(*alone).substr(header.size(), there.begin - header.size());
    if (ends_with(std::string_view(full_).substr(0, here.begin), head))
      local.begin = here.begin - head.size();
    return local;
  }

  const ChatTemplate& chat_;
  const Json& conversation_;
  const SpanOptions& options_;
  const Json::Array* messages_ = nullptr;
  std::string eos_, full_;
  std::map<std::pair<int64_t, bool>, Text> prefixes_;
  bool exact_begin_ = false;
};

}  // namespace

AssistantSpans find_assistant_spans(const ChatTemplate& chat_template, const Json& conversation,
                                    const SpanOptions& options) {
  return Finder(chat_template, conversation, options).run();
}

}  // namespace serval
