#include "text/chat_spans.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "support/test_data.h"

namespace serval {
namespace {

ChatTemplate chat(const std::string& source) {
  Json variables = Json::object();
  variables.set("eos_token", "</s>");
  return ChatTemplate(source, std::move(variables), "t");
}

Json messages(const std::string& list) {
  return Json::parse("{\"messages\": " + list + "}", "row");
}

std::vector<std::string> texts(const AssistantSpans& found) {
  std::vector<std::string> parts;
  for (const MessageSpan& s : found.spans)
    parts.push_back(
        found.text.substr(static_cast<size_t>(s.text.begin), static_cast<size_t>(s.text.end - s.text.begin)));
  return parts;
}

using Texts = std::vector<std::string>;

const char* const kTwoTurns =
    R"([{"role": "system", "content": "S"}, {"role": "user", "content": "same"}, {"role": "assistant", "content": "same"},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": " ü "}])";

const char* const kChatml =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

TEST(ChatSpans, PrefixesOfAPlainTemplate) {
  const AssistantSpans found = find_assistant_spans(chat(kChatml), messages(kTwoTurns));
  EXPECT_EQ(texts(found), (Texts{"same<|im_end|>\n", " ü <|im_end|>\n"}));
  EXPECT_EQ(found.spans[0].message, 2);
  EXPECT_EQ(found.spans[1].message, 4);
}

TEST(ChatSpans, OtherRolesAndTheLastTurn) {
  EXPECT_EQ(texts(find_assistant_spans(chat(kChatml), messages(kTwoTurns), {.roles = {"user"}})),
            (Texts{"same<|im_end|>\n", "b<|im_end|>\n"}));
  EXPECT_EQ(texts(find_assistant_spans(chat(kChatml), messages(kTwoTurns), {.roles = {}})).size(), 5u);
  EXPECT_EQ(texts(find_assistant_spans(chat(kChatml), messages(kTwoTurns), {.last_turn_only = true})),
            (Texts{" ü <|im_end|>\n"}));
}

// Reasoning stands in the last answer alone, so the text up to an answer differs once more follows.
const char* const kThinking =
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}<think>{{ "
    "m.reasoning_content }}"
    "</think>{% endif %}{{ m.content | trim }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% "
    "endif %}";

TEST(ChatSpans, ReasoningThatIsTakenOutLater) {
  const Json row = messages(
      R"([{"role": "user", "content": "1"}, {"role": "assistant", "content": "one", "reasoning_content": "r"},
          {"role": "user", "content": "2"}, {"role": "assistant", "content": "two", "reasoning_content": "q"}])");
  EXPECT_EQ(texts(find_assistant_spans(chat(kThinking), row)), (Texts{"one</>", "<think>q</think>two</>"}));
}

TEST(ChatSpans, APromptThatOpensReasoning) {
  const char* source =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
      "{% if add_generation_prompt %}<assistant><think>\n{% endif %}";
  EXPECT_EQ(texts(find_assistant_spans(chat(source), messages(kTwoTurns))), (Texts{"same</>", " ü </>"}));
}

TEST(ChatSpans, AnEndTokenAfterTheLastMessageAlone) {
  const char* source =
      "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}";
  EXPECT_EQ(texts(find_assistant_spans(chat(source), messages(kTwoTurns))),
            (Texts{"same<|end|>\n", " ü <|end|>\n</s>"}));
}

TEST(ChatSpans, ToolCallsWithoutContent) {
  const char* source =
      "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% for c in m.tool_calls or [] %}[{{ "
      "c.function.name }} "
      "{{ c.function.arguments | tojson }}]{% endfor %}</>{% endfor %}{% if add_generation_prompt "
      "%}<assistant>{% endif %}";
  const Json row = messages(
      R"([{"role": "user", "content": "w"}, {"role": "assistant", "content": null, "tool_calls": [{"function":
          {"name": "f", "arguments": {"x": "y"}}}]}, {"role": "tool", "content": "r"}, {"role": "assistant", "content": "d"}])");
  EXPECT_EQ(texts(find_assistant_spans(chat(source), row)), (Texts{"[f {\"x\": \"y\"}]</>", "d</>"}));
}

TEST(ChatSpans, MessagesThatAreLeftOut) {
  const char* source =
      "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}<{{ m.role }}>{{ m.content }}</>{% "
      "endif %}"
      "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
  const AssistantSpans found = find_assistant_spans(chat(source), messages(kTwoTurns));
  EXPECT_EQ(texts(found), (Texts{" ü </>"}));
  EXPECT_EQ(found.unwritten, (std::vector<int64_t>{2}));
}

TEST(ChatSpans, WhatCannotBeToldIsRefused) {
  // The content stands in two places.
  const char* twice =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{{ messages | "
      "map(attribute='content') | join }}";
  try {
    const AssistantSpans found = find_assistant_spans(chat(twice), messages(kTwoTurns));
    FAIL() << texts(found).size();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("(assistant) cannot be told from the rest"), std::string::npos)
        << error.what();
  }
  // The template refuses the conversation itself.
  EXPECT_THROW(find_assistant_spans(chat("{{ raise_exception('no') }}"), messages(kTwoTurns)), UserError);
}

TEST(ChatSpans, MarksSayWhichMessageTheyBelongTo) {
  const char* source =
      "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% "
      "endgeneration %}"
      "{% generation %}</>{% endgeneration %}{% else %}{{ m.content }}</>{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}";
  const AssistantSpans all = find_assistant_spans(chat(source), messages(kTwoTurns));
  EXPECT_EQ(texts(all), (Texts{"same", "</>", " ü ", "</>"}));
  EXPECT_EQ(all.spans[1].message, 2);
  EXPECT_EQ(all.spans[3].message, 4);
  EXPECT_EQ(texts(find_assistant_spans(chat(source), messages(kTwoTurns), {.last_turn_only = true})),
            (Texts{" ü ", "</>"}));
  // Without the marks the same text is found.
  EXPECT_EQ(texts(find_assistant_spans(chat(source), messages(kTwoTurns), {.use_marks = false})),
            (Texts{"same</>", " ü </>"}));
}

// Real templates with marks: looking for the spans as if there were none finds the same text, up to what a
// header holds.
TEST(ChatSpans, RealTemplatesAgreeWithTheirMarks) {
  SERVAL_NEEDS_DATA("templates");
  int64_t compared = 0;
  for (const char* name :
       {"llama3_training", "qwen3_training", "gemma_training", "phi3_training", "cohere_training"}) {
    const std::string path = testing::test_data("templates/trl/" + std::string(name) + ".jinja");
    const ChatTemplate marked(read_file(path),
                              Json::parse(R"({"bos_token": "<s>", "eos_token": "</s>"})", "v"), name);
    const Json row = messages(
        R"([{"role": "user", "content": "same"}, {"role": "assistant", "content": "same"},
            {"role": "user", "content": "b"}, {"role": "assistant", "content": " c "}])");
    SCOPED_TRACE(name);
    const AssistantSpans with = find_assistant_spans(marked, row);
    const AssistantSpans without = find_assistant_spans(marked, row, {.use_marks = false});
    std::string a, b;
    for (const std::string& t : texts(with)) a += t;
    for (const std::string& t : texts(without)) b += t;
    EXPECT_EQ(a, b);
    compared++;
  }
  EXPECT_EQ(compared, 5);
}

std::vector<std::string> answers_of(const char* source) {
  const ChatTemplate chat(source, Json::object(), "t");
  const Json row =
      Json::parse(R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"},
      {"role": "user", "content": "b"}, {"role": "assistant", "content": "C"}]})",
                  "row");
  return texts(find_assistant_spans(chat, row));
}

// As GLM: nothing ends an answer but the token that begins the next turn.
TEST(ChatSpans, TheNextTurnsTokenEndsAnAnswerThatHasNoEnd) {
  EXPECT_EQ(answers_of("{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
                       "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"),
            (std::vector<std::string>{"A<|user|>", "C"}));
  EXPECT_EQ(answers_of("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
                       "{% if add_generation_prompt %}assistant: {% endif %}"),
            (std::vector<std::string>{"A", "C"}));
}

TEST(ChatSpans, ReasoningThatThePromptOpensIsTheAnswers) {
  EXPECT_EQ(
      answers_of("{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}<think>\n\n</think>\n"
                 "{% endif %}{{ m.content }}<|end|>{% endfor %}"
                 "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"),
      (std::vector<std::string>{"<think>\n\n</think>\nA<|end|>", "<think>\n\n</think>\nC<|end|>"}));
}

}  // namespace
}  // namespace serval
