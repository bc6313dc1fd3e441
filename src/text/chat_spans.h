// Which bytes of a rendered conversation each message produced, so that training can be told "the assistant",
// "the last answer" or "message 3" whatever the chat template is.
//
//   const AssistantSpans spans = find_assistant_spans(chat_template, conversation, {.last_turn_only = true});
//   for (const MessageSpan& s : spans.spans) train_on(spans.text, s.text.begin, s.text.end);
//
// An assistant's span is what a model has to generate: it begins where the generation prompt ends, or with
// the tag that opens its reasoning where the prompt writes that already ("<think>"), and goes up to the next
// turn, with the end-of-turn token and the newline that the template puts after it. Where a template writes
// nothing after an answer, the token that begins the next turn ends it. The span of any other role begins
// with its content.
//
// Where the template has {% generation %}, its marks are the spans of the assistant. Else each span is found
// in two ways. Prefixes: the rendering of the messages before, with the generation prompt, ends where the
// span begins; that of the messages up to this one ends where the span ends. Markers: the message's content
// is replaced by two different markers, and what differs between the renderings is where the content stands.
// Templates that write earlier turns differently once more follow (reasoning taken out, an end token moved)
// are handled by what stays the same; where the two ways disagree, or neither holds, a UserError says for
// which message and why.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"

namespace serval {

struct SpanOptions {
  std::vector<std::string> roles = {"assistant"};  // of the messages whose spans are wanted; empty: all
  bool last_turn_only = false;                     // only the last message of these roles
  bool use_marks = true;                           // false: as if there were no {% generation %}
  bool verify = true;  // false: the second way is asked only where the first fails
  RenderOptions render{};
};

struct MessageSpan {
  int64_t message = 0;  // index in "messages"
  TextSpan text;
  friend bool operator==(const MessageSpan&, const MessageSpan&) = default;
};

struct AssistantSpans {
  std::string text;                // the whole conversation
  std::vector<MessageSpan> spans;  // in order; with {% generation %} a message may have several
  std::vector<int64_t> unwritten;  // wanted messages whose content the template leaves out
};

AssistantSpans find_assistant_spans(const ChatTemplate& chat_template, const Json& conversation,
                                    const SpanOptions& options = {});

}  // namespace serval
