#include "data/row_shape.h"

#include <gtest/gtest.h>

#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::write_dataset;

const ShapeOptions kChat{.has_chat_template = true, .use = RowUse::any};
const ShapeOptions kPlain{.use = RowUse::any};

DatasetShape shape_of(const std::string& row, const ShapeOptions& options = kChat) {
  return detect_shape(*open_dataset(write_dataset(Json::parse(row, "row").dump())), options);
}

TrainingRow read(const std::string& row, const ShapeOptions& options = kChat) {
  const auto rows = open_dataset(write_dataset(Json::parse(row, "row").dump()));
  return read_training_row(rows->row(0), detect_shape(*rows, options), rows->where(0));
}

template <class Body>
Body body(const std::string& row, const ShapeOptions& options = kChat) {
  return std::get<Body>(read(row, options).body);
}

std::string dump(const Json::Array& messages) {
  return Json(messages).dump();
}

std::string conversation(const std::string& row, const ShapeOptions& options = kChat) {
  return dump(body<ConversationRow>(row, options).messages);
}

TEST(RowShape, Messages) {
  const std::string row = R"({"id": 3, "messages": [{"role": "user", "content": "hi"},
      {"role": "assistant", "content": null, "tool_calls": []}], "tools": "[{\"name\": \"f\"}]",
      "chat_template_kwargs": {"enable_thinking": false}})";
  const DatasetShape shape = shape_of(row);
  EXPECT_EQ(shape.kind, RowKind::conversation);
  EXPECT_TRUE(shape.chat);
  EXPECT_HAS(shape.explanation, "1 rows of conversations (column messages); not read: id");
  const TrainingRow training = read(row);
  EXPECT_EQ(training.kind(), RowKind::conversation);
  EXPECT_EQ(training.context.dump(),
            R"({"tools": [{"type": "function", "function": {"name": "f"}}], "enable_thinking": false})");
  const Json rendered =
      conversation_for_template(std::get<ConversationRow>(training.body).messages, training.context);
  EXPECT_EQ(rendered.at("messages").size(), 2u);
  EXPECT_FALSE(rendered.contains("id"));
}

TEST(RowShape, ShareGptSpellings) {
  const std::string expected =
      R"([{"role": "system", "content": "S"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])";
  EXPECT_EQ(
      conversation(R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
      "system": "S"})"),
      expected);
  EXPECT_EQ(
      conversation(R"({"conversation": [{"from": "system", "value": "S"}, {"from": "user", "value": "q"},
      {"from": "bot", "value": "a"}], "system": "not this one"})"),
      expected);
  EXPECT_EQ(
      conversation(R"({"messages": [{"speaker": "system", "text": "S"}, {"speaker": "prompter", "text": "q"},
      {"speaker": "chatgpt", "text": "a"}]})"),
      expected);
  EXPECT_EQ(conversation(R"({"dialogue": "[{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", )"
                         R"(\"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}]"})"),
            expected);
  ShapeOptions named = kChat;
  named.columns = {{"messages", "chat"}, {"role", "who"}, {"content", "said"}};
  EXPECT_EQ(conversation(R"({"chat": [{"who": "system", "said": "S"}, {"who": "human", "said": "q"},
      {"who": "gpt", "said": "a"}]})",
                         named),
            expected);
}

TEST(RowShape, ToolCallsInAllSpellings) {
  const std::string call =
      R"("tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}])";
  // ShareGPT turns.
  EXPECT_EQ(conversation(R"({"conversations": [{"from": "human", "value": "q"},
      {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
      {"from": "observation", "value": "2"}, {"from": "gpt", "value": "two"}]})"),
            R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "", )" + call +
                R"(}, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "two"}])");
  // OpenAI: arguments are JSON in a string, null keys come from tables.
  EXPECT_EQ(conversation(R"({"messages": [{"role": "user", "content": "q", "tool_calls": null, "name": null},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
       "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "2"}]})"),
            R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": )"
            R"([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}, )"
            R"({"role": "tool", "content": "2", "tool_call_id": "c1"}])");
  // OpenAI before tools.
  const std::string old = R"({"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "function_call": {"name": "f", "arguments": "{\"x\": 1}"}},
      {"role": "function", "name": "f", "content": "2"}], "functions": [{"name": "f", "parameters": {}}]})";
  EXPECT_EQ(conversation(old), R"([{"role": "user", "content": "q"}, {"role": "assistant", )" + call +
                                   R"(}, {"role": "tool", "content": "2", "name": "f"}])");
  EXPECT_EQ(read(old).context.dump(),
            R"({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]})");
  // LLaMA-Factory's parts.
  EXPECT_EQ(conversation(R"({"messages": [{"role": "user", "content": [{"type": "text", "value": "q"}]},
      {"role": "assistant", "content": [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "ok"},
       {"type": "tool_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"}]}], "tools": "[]"})"),
            R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "ok", )"
            R"("reasoning_content": "hm", )" +
                call + "}]");
  EXPECT_EQ(read(R"({"messages": [{"role": "user", "content": "q"}], "tools": "[]"})").context.size(), 0u);
  // A call in the model's own words stays text.
  EXPECT_HAS(conversation(R"({"conversations": [{"from": "human", "value": "q"},
      {"from": "function_call", "value": "<call>f</call>"}]})"),
             R"({"role": "assistant", "content": "<call>f</call>"})");
}

TEST(RowShape, WeightsOfMessages) {
  EXPECT_EQ(
      conversation(R"({"messages": [{"role": "user", "content": "q", "train": false},
      {"role": "assistant", "content": "a", "weight": 0}, {"role": "user", "content": "q", "loss_weight": 0.5},
      {"role": "assistant", "content": "a", "train": true}]})"),
      R"([{"role": "user", "content": "q", "weight": 0}, {"role": "assistant", "content": "a", "weight": 0}, )"
      R"({"role": "user", "content": "q", "weight": 0.5}, {"role": "assistant", "content": "a", "weight": 1}])");
  EXPECT_FALSE(
      conversation_for_template(body<ConversationRow>(R"({"messages": [{"role": "user", "content": "q",
      "weight": 0}]})")
                                    .messages,
                                Json::object())
          .at("messages")
          .as_array()[0]
          .contains("weight"));
}

TEST(RowShape, AlpacaBecomesMessages) {
  const std::string line =
      R"({"instruction": "Add", "input": "1 2", "output": "3", "system": "S", "text": "x"})";
  const DatasetShape shape = shape_of(line);
  EXPECT_EQ(shape.kind, RowKind::prompt_completion);
  EXPECT_HAS(shape.explanation, "chat template");
  EXPECT_HAS(shape.explanation, "not read: text");
  const auto row = body<PromptCompletionRow>(line);
  EXPECT_EQ(dump(row.prompt.messages),
            R"([{"role": "system", "content": "S"}, {"role": "user", "content": "Add\n1 2"}])");
  EXPECT_EQ(dump(row.completion.messages), R"([{"role": "assistant", "content": "3"}])");
  EXPECT_EQ(
      dump(
          body<PromptCompletionRow>(R"({"instruction": "Add", "input": "", "output": "3"})").prompt.messages),
      R"([{"role": "user", "content": "Add"}])");
  // Answers of the history are trained too.
  EXPECT_EQ(dump(body<PromptCompletionRow>(R"({"instruction": "Add", "output": "3", "system": "S",
      "history": [["hi", "hello"]]})")
                     .prompt.messages),
            R"([{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}, )"
            R"({"role": "assistant", "content": "hello", "weight": 1}, {"role": "user", "content": "Add"}])");
}

TEST(RowShape, AlpacaWithoutTemplateIsThePromptText) {
  const DatasetShape shape = shape_of(R"({"instruction": "Add", "output": "3"})", {});
  EXPECT_FALSE(shape.chat);
  EXPECT_HAS(shape.explanation, "Alpaca prompt format");
  const auto row = body<PromptCompletionRow>(R"({"instruction": "Add", "input": "1 2", "output": "3"})", {});
  EXPECT_EQ(
      row.prompt.text,
      "Below is an instruction that describes a task, paired with an input that provides further context. "
      "Write "
      "a response that appropriately completes the request.\n\n### Instruction:\nAdd\n\n### Input:\n1 2\n\n"
      "### Response:\n");
  EXPECT_EQ(row.completion.text, "3");
  EXPECT_EQ(
      body<PromptCompletionRow>(R"({"instruction": "Add", "input": null, "output": "3"})", {}).prompt.text,
      "Below is an instruction that describes a task. Write a response that appropriately completes the "
      "request.\n\n### Instruction:\nAdd\n\n### Response:\n");
  EXPECT_HAS(error_of([] { read(R"({"instruction": "Add", "output": "3", "history": [["a", "b"]]})", {}); }),
             "'history' needs a model with a chat template");
}

TEST(RowShape, QuestionsAndAnswers) {
  for (const auto& [question, answer] : {std::pair{"question", "answer"},
                                         {"prompt", "response"},
                                         {"query", "response"},
                                         {"input", "output"}}) {
    Json row = Json::object();
    row.set(question, Json("q"));
    row.set(answer, Json("a"));
    row.set("system_prompt", Json("S"));
    const auto pair = body<PromptCompletionRow>(row.dump());
    EXPECT_EQ(dump(pair.prompt.messages),
              R"([{"role": "system", "content": "S"}, {"role": "user", "content": "q"}])")
        << question;
    EXPECT_EQ(dump(pair.completion.messages), R"([{"role": "assistant", "content": "a"}])") << question;
  }
  EXPECT_EQ(body<PromptCompletionRow>(R"({"instruction": "i", "instances": [{"input": "x", "output": "y"}]})")
                .prompt.messages[0]
                .at("content"),
            Json("i\nx"));
}

TEST(RowShape, PromptCompletionAndText) {
  const auto text = body<PromptCompletionRow>(R"({"prompt": "p", "completion": "c"})");
  EXPECT_EQ(text.prompt.text, "p");
  EXPECT_EQ(text.completion.text, "c");
  const auto chat = body<PromptCompletionRow>(R"({"prompt": [{"role": "user", "content": "p"}],
      "completion": [{"role": "assistant", "content": "c"}]})");
  EXPECT_EQ(chat.prompt.messages.size(), 1u);
  EXPECT_EQ(chat.completion.messages.size(), 1u);
  EXPECT_EQ(body<TextRow>(R"({"text": "t"})").text, "t");
  EXPECT_EQ(body<TextRow>(R"({"messages": 1, "body": "t"})", {.text_field = "body"}).text, "t");
  // The prompt of a conversation beside it is no shape of its own.
  EXPECT_EQ(shape_of(R"({"prompt": "p", "messages": [{"role": "user", "content": "p"}]})").kind,
            RowKind::conversation);
}

TEST(RowShape, SegmentsAndTokens) {
  const auto segments =
      body<SegmentsRow>(R"({"segments": [{"label": false, "text": "q "}, {"label": true, "text": "a"}]})")
          .segments;
  ASSERT_EQ(segments.size(), 2u);
  EXPECT_EQ(segments[0].text, "q ");
  EXPECT_TRUE(segments[1].trained);
  const auto tokens = body<TokenisedRow>(R"({"input_ids": [5, 6, 7, 0], "labels": [-100, 6, 7, -100],
      "attention_mask": [1, 1, 1, 0]})");
  EXPECT_EQ(tokens.ids, (std::vector<int32_t>{5, 6, 7}));
  EXPECT_EQ(tokens.trained, (std::vector<bool>{false, true, true}));
  const auto masks = body<TokenisedRow>(R"({"input_ids": [5, 6, 7], "assistant_masks": [0, 1, 1],
      "completion_mask": [0, 0, 1]})");
  EXPECT_EQ(masks.trained, (std::vector<bool>{false, true, true}));
  EXPECT_EQ(masks.completion, (std::vector<bool>{false, false, true}));
  // Labels one place early: the last one is a token that input_ids lacks.
  const auto early = body<TokenisedRow>(R"({"input_ids": [5, 6, 7], "labels": [-100, 7, 8]})");
  EXPECT_EQ(early.ids, (std::vector<int32_t>{5, 6, 7, 8}));
  EXPECT_EQ(early.trained, (std::vector<bool>{false, false, true, true}));
  const auto ended = body<TokenisedRow>(R"({"input_ids": [5, 6, 7], "labels": [6, 7, -100]})");
  EXPECT_EQ(ended.ids, (std::vector<int32_t>{5, 6, 7}));
  EXPECT_EQ(ended.trained, (std::vector<bool>{false, true, true}));
}

TEST(RowShape, PreferenceInAllShapes) {
  const std::string prompt = R"([{"role": "user", "content": "q"}])",
                    good = R"([{"role": "assistant", "content": "good"}])",
                    bad = R"([{"role": "assistant", "content": "bad"}])";
  for (
      const char* row :
      {// explicit and implicit prompts (TRL)
       R"({"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}]})",
       R"({"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]})",
       R"({"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]})",
       // LLaMA-Factory
       R"({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"}})",
       R"({"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"})",
       R"({"chosen_messages": [{"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": "good"}], "loss_weight": 1.0}],
            "rejected_messages": [{"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": "bad"}], "loss_weight": 1.0}]})",
       // Axolotl
       R"({"question": "q", "chosen": "good", "rejected": "bad"})",
       R"({"input": "q", "chosen_response": "good", "rejected_response": "bad"})",
       // ranked, OpenAI
       R"({"prompt": "q", "answers": [{"answer": "so so", "rank": 2}, {"answer": "bad", "rank": 3},
            {"answer": "good", "rank": 1}]})",
       R"({"input": {"messages": [{"role": "user", "content": "q"}], "tools": [], "parallel_tool_calls": true},
            "preferred_output": [{"role": "assistant", "content": "good"}],
            "non_preferred_output": [{"role": "assistant", "content": "bad"}]})"}) {
    const auto pair = body<PreferenceRow>(row);
    EXPECT_EQ(dump(pair.prompt.messages), prompt) << row;
    EXPECT_EQ(dump(pair.chosen.messages), good) << row;
    EXPECT_EQ(dump(pair.rejected.messages), bad) << row;
  }
  const auto text = body<PreferenceRow>(R"({"prompt": "p", "chosen": "c", "rejected": "r", "margin": 2,
      "chosen_score": 7.5})");
  EXPECT_EQ(text.prompt.text + "|" + text.chosen.text + "|" + text.rejected.text, "p|c|r");
  EXPECT_EQ(text.margin, 2.0);
  EXPECT_EQ(text.chosen_score, 7.5);
  EXPECT_FALSE(text.rejected_score);
}

// TRL's extract_prompt on texts: up to where they differ, a blank before that belongs to the answers.
TEST(RowShape, ImplicitTextPrompts) {
  const auto parts = [](const std::string& chosen, const std::string& rejected) {
    Json row = Json::object();
    row.set("chosen", Json(chosen));
    row.set("rejected", Json(rejected));
    const auto pair = body<PreferenceRow>(row.dump(), kPlain);
    return pair.prompt.text + "|" + pair.chosen.text + "|" + pair.rejected.text;
  };
  EXPECT_EQ(parts("The sky is blue.", "The sky is green."), "The sky is| blue.| green.");
  EXPECT_EQ(parts("ab: yes", "ab: yo"), "ab: y|es|o");
  EXPECT_EQ(parts("same", "same, longer"), "sam|e|e, longer");
  EXPECT_EQ(parts("x\xC3\xA9", "x\xC3\xA8"), "x|\xC3\xA9|\xC3\xA8");  // é and è share a byte
  EXPECT_EQ(parts("no", "yes"), "|no|yes");
}

TEST(RowShape, UnpairedInAllShapes) {
  for (
      const char* row :
      {R"({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}],
            "label": true})",
       R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": true})",
       R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "kto_tag": "true"})",
       R"({"completion": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": 1})",
       R"({"instruction": "q", "output": "a", "kto_tag": true})"}) {
    const auto answer = body<UnpairedRow>(row);
    EXPECT_EQ(dump(answer.prompt.messages), R"([{"role": "user", "content": "q"}])") << row;
    EXPECT_EQ(dump(answer.completion.messages), R"([{"role": "assistant", "content": "a"}])") << row;
    EXPECT_TRUE(answer.desirable) << row;
  }
  const auto text = body<UnpairedRow>(R"({"prompt": "p", "completion": "c", "label": false})");
  EXPECT_EQ(text.prompt.text + "|" + text.completion.text, "p|c");
  EXPECT_FALSE(text.desirable);
}

TEST(RowShape, PromptsKeepTheOtherColumns) {
  const ShapeOptions rl{.has_chat_template = true, .use = RowUse::prompts};
  const std::string row = R"({"prompt": [{"role": "user", "content": "q"}], "answer": 4, "solution": ["x"]})";
  EXPECT_HAS(shape_of(row, rl).explanation,
             "prompts (column prompt, as messages); for reward functions: answer, solution");
  const TrainingRow training = read(row, rl);
  EXPECT_EQ(training.extra.dump(), R"({"answer": 4, "solution": ["x"]})");
  EXPECT_EQ(std::get<PromptRow>(training.body).prompt.messages.size(), 1u);
  // A question with its answer: the answer is for the reward function.
  const TrainingRow math = read(R"({"question": "6 x 7?", "answer": "42"})", rl);
  EXPECT_EQ(dump(std::get<PromptRow>(math.body).prompt.messages),
            R"([{"role": "user", "content": "6 x 7?"}])");
  EXPECT_EQ(math.extra.dump(), R"({"answer": "42"})");
  EXPECT_EQ(shape_of(R"({"prompt": "p", "answer": "a"})").kind, RowKind::prompt);
}

TEST(RowShape, Stepwise) {
  const auto steps =
      body<StepwiseRow>(R"({"prompt": "p", "completions": ["a", "b"], "labels": [true, false]})");
  EXPECT_EQ(steps.steps, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(steps.correct, (std::vector<bool>{true, false}));
}

TEST(RowShape, NamedShapesAndColumns) {
  ShapeOptions kto = kChat;
  kto.format = "messages";
  const std::string rated =
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": true})";
  EXPECT_EQ(shape_of(rated).kind, RowKind::unpaired);
  EXPECT_EQ(shape_of(rated, kto).kind, RowKind::conversation);
  for (const char* name : {"sharegpt", "chat_template", "openai", "chat_template.default"}) {
    kto.format = name;
    EXPECT_EQ(shape_of(rated, kto).kind, RowKind::conversation) << name;
  }
  ShapeOptions mapped = kChat;
  mapped.columns = {{"prompt", "q"}, {"completion", "a"}};
  EXPECT_EQ(body<PromptCompletionRow>(R"({"q": "x", "a": "y", "prompt": "old"})", mapped).prompt.text, "x");
  mapped.columns = {{"prompt", "q"}, {"query", "more"}, {"response", "a"}};  // LLaMA-Factory
  EXPECT_EQ(
      body<PromptCompletionRow>(R"({"q": "x", "a": "y", "more": "z"})", mapped).prompt.messages[0].dump(),
      R"({"role": "user", "content": "x\nz"})");
  EXPECT_HAS(error_of([&] { read(R"({"q": "x"})", mapped); }),
             "no column 'more', which dataset_columns calls input");
  mapped.columns = {{"promt", "q"}};
  EXPECT_HAS(error_of([&] { read(R"({"q": "x"})", mapped); }), "did you mean 'prompt'");
  ShapeOptions wrong = kChat;
  wrong.format = "alpacca";
  EXPECT_HAS(error_of([&] { read(R"({"q": "x"})", wrong); }), "did you mean 'alpaca'");
  wrong.format = "alpaca";
  EXPECT_HAS(error_of([&] { read(R"({"q": "x"})", wrong); }), "the column 'instruction' is missing");
}

TEST(RowShape, EveryFormatHasItsName) {
  for (const auto& [name, aliases] : dataset_shape_names()) {
    if (name == "auto") continue;
    ShapeOptions options = kChat;
    options.format = name;
    // No row has all columns: each shape must refuse this one by saying what it lacks.
    EXPECT_HAS(error_of([&] { read(R"({"nothing": 1})", options); }), "is missing") << name;
  }
}

TEST(RowShape, UsesThatDoNotFit) {
  const auto error = [](const std::string& row, RowUse use) {
    return error_of([&] { shape_of(row, {.has_chat_template = true, .use = use}); });
  };
  const std::string pair = R"({"prompt": "p", "chosen": "c", "rejected": "r"})";
  EXPECT_HAS(error(pair, RowUse::supervised),
             "preference pairs (prompt, chosen, rejected; as plain text), which preference training (DPO");
  EXPECT_HAS(error(pair, RowUse::supervised), "supervised fine-tuning (SFT) needs ");
  EXPECT_HAS(error(pair, RowUse::supervised), "serval data convert --to messages");
  EXPECT_EQ(shape_of(pair, {.use = RowUse::preference}).kind, RowKind::preference);
  EXPECT_EQ(shape_of(pair, {.use = RowUse::unpaired}).kind, RowKind::preference);
  EXPECT_HAS(error(R"({"text": "t"})", RowUse::preference), "needs ");
  EXPECT_HAS(error(R"({"text": "t"})", RowUse::prompts), "plain text");
  EXPECT_HAS(error(R"({"prompt": "p"})", RowUse::supervised), "reinforcement learning");
  EXPECT_HAS(error(R"({"prompt": "p", "completions": ["a"], "labels": [true]})", RowUse::supervised),
             "process reward model");
}

TEST(RowShape, WrongColumns) {
  const auto error = [](const std::string& row, const ShapeOptions& options = {.has_chat_template = true}) {
    return error_of([&] { shape_of(row, options); });
  };
  EXPECT_HAS(error(R"({"left": "q", "right": "a"})"), "left, right; known are: ");
  EXPECT_HAS(error("{}"), "no known kind of dataset: none");
  EXPECT_HAS(error(R"({"messages": [], "instruction": "", "output": ""})"), "two kinds of dataset");
  EXPECT_HAS(error(R"({"text": "t"})", {.text_field = "body"}), "no column 'body'");
  EXPECT_HAS(error(R"({"text": 3})"), "rows.jsonl:1: 'text' must be text but is integer");
  EXPECT_HAS(error(R"({"prompt": "p", "completion": null})"), "'completion' must be text but is null");
  EXPECT_HAS(error(R"({"prompt": [{"role": "user", "content": "p"}], "completion": 3})"),
             "'completion' must be a list of messages but is integer");
  EXPECT_HAS(error(R"({"messages": "hi"})"), "must be a list of messages but is string");
  EXPECT_HAS(error(R"({"messages": []})"), "empty list");
  EXPECT_HAS(error(R"({"messages": [3]})"), "'messages[0]' must be an object");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}, {"from": 3}]})"),
             "'messages[1]' needs a 'role'");
  EXPECT_HAS(error(R"({"messages": [{"role": "user"}]})"), "needs 'content'");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": 5}]})"),
             "must be text or a list of parts but is integer");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x", "weight": -1}]})"),
             "'messages[0].weight'");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x", "train": "maybe"}]})"), "true or false");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}], "images": ["a.png"]})"),
             "'images' asks for");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})"),
             "training on media");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}], "tools": "[{"})"),
             "column 'tools': not valid JSON");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}], "tools": {}})"), "a list of tools");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x", "tool_calls": [{"x": 1}]}]})"),
             "needs a 'name'");
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}]})", {}), "has no chat template");
  EXPECT_HAS(error(R"({"instruction": 1, "output": "x"})"), "'instruction' must be text but is integer");
  EXPECT_HAS(error(R"({"input_ids": [1, 2], "labels": [1]})"),
             "'labels' has 1 entries but 'input_ids' has 2");
  EXPECT_HAS(error(R"({"input_ids": [1, 2], "labels": [3, -100]})"), "is neither -100 nor its id");
  EXPECT_HAS(error(R"({"input_ids": [1, "a"]})"), "must hold token ids but holds string");
  EXPECT_HAS(error(R"({"input_ids": [1, 4294967296]})"), "must hold token ids");
  const ShapeOptions any = kChat;
  EXPECT_HAS(error(R"({"messages": [{"role": "user", "content": "x"}], "label": true})", any),
             "must end with");
  EXPECT_HAS(error(R"({"prompt": "p", "answers": [{"answer": "a", "rank": 1}]})", any),
             "at least two answers");
  EXPECT_HAS(error(R"({"chosen": "", "rejected": ""})", any), "neither answer");
  EXPECT_HAS(error(R"({"prompt": "p", "completions": [], "labels": []})", any), "0 steps");
}

TEST(RowShape, LaterRowsAreCheckedToo) {
  const auto rows = open_dataset(write_dataset("{\"text\": \"a\"}\n{\"body\": \"b\"}\n"));
  const DatasetShape shape = detect_shape(*rows, {});
  EXPECT_HAS(error_of([&] { read_training_row(rows->row(1), shape, rows->where(1)); }),
             "rows.jsonl:2: the column 'text' is missing; found columns: body");
}

}  // namespace
}  // namespace serval
