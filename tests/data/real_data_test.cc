// The readers and masks on published datasets with a published tokenizer and template.
#include <gtest/gtest.h>

#include "data/batch_stream.h"
#include "data/example.h"
#include "data/preview.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::test_data;

std::string qwen() {
  return test_data("tokenizers/qwen2.5");
}

ChatTemplate training_template() {
  const std::string path = test_data("templates/trl/qwen2_5_training.jinja");
  return ChatTemplate(read_file(path), Json::object(), path);
}

TEST(RealData, AlpacaDemo) {
  SERVAL_NEEDS_DATA("datasets/llama-factory/alpaca_en_demo.json");
  const Tokenizer tokenizer = Tokenizer::from_directory(qwen());
  const ChatTemplate chat_template = training_template();
  const auto rows = open_dataset(test_data("datasets/llama-factory/alpaca_en_demo.json"));
  EXPECT_EQ(rows->size(), 999);
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
  const TokenizedData data = tokenize_dataset(*rows, shape, tokenizer, &chat_template, {.max_length = 1024});
  EXPECT_EQ(data.examples.size(), 999);
  EXPECT_EQ(data.statistics.boundary_mismatches, 0);
  // This template's spans begin with the newline after the role, which the generation prompt holds: one token
  // more.
  const TokenizedData spans =
      tokenize_dataset(*rows, shape, tokenizer, &chat_template,
                       {.mask = {.assistant_only_loss = true, .completion_only_loss = false}});
  EXPECT_EQ(data.statistics.truncated, 0);
  EXPECT_EQ(spans.statistics.labels - data.statistics.labels, 999);

  BatchStream stream(data.examples, {.batch_size = 2, .packing = true, .max_length = 1024});
  EXPECT_GT(stream.utilisation(), 0.97);
  int64_t labels = 0;
  for (int64_t i = 0; i < stream.steps_per_epoch(); ++i) labels += stream.next().num_labels;
  EXPECT_EQ(labels, data.statistics.labels);

  const TokenizedData plain =
      tokenize_dataset(*rows, detect_shape(*rows, {}), tokenizer, nullptr, {.max_length = 1024});
  EXPECT_EQ(plain.examples.size(), 999);
  EXPECT_HAS(preview_examples(plain.examples, tokenizer, 1, false),
             "### Response:\n[[Making crepes is an easy");
}

TEST(RealData, Gsm8k) {
  SERVAL_NEEDS_DATA("datasets/gsm8k/train.jsonl");
  const auto rows = open_dataset(test_data("datasets/gsm8k/train.jsonl"));
  EXPECT_EQ(rows->size(), 7473);
  const Tokenizer tokenizer = Tokenizer::from_directory(qwen());
  const DatasetShape shape = detect_shape(*rows, {.text_field = "question"});
  const TokenizedData data = tokenize_dataset(*rows, shape, tokenizer, nullptr, {});
  EXPECT_EQ(data.examples.size(), 7473);
  std::string question = rows->row(7472).at("question").as_string();
  const auto eos = tokenizer.eos_id();
  if (eos) question += tokenizer.id_to_token(*eos);
  EXPECT_EQ(tokenizer.decode(data.examples.ids(7472)), question);
}

// Every published dataset, by what it is.
TEST(RealData, AllAreRecognised) {
  SERVAL_NEEDS_DATA("datasets/llama-factory/identity.json");
  struct Expected {
    const char* name;
    RowKind kind;
    int64_t rows;
    const char* explanation;
  };
  for (const Expected& e : std::initializer_list<Expected>{
           {"llama-factory/identity.json", RowKind::prompt_completion, 91, "Alpaca rows"},
           {"llama-factory/alpaca_en_demo.json", RowKind::prompt_completion, 999, "Alpaca rows"},
           {"llama-factory/glaive_toolcall_en_demo.json", RowKind::conversation, 300,
            "(column conversations)"},
           {"llama-factory/dpo_en_demo.json", RowKind::preference, 300, "(conversations, chosen, rejected"},
           {"llama-factory/v1_dpo_demo.jsonl", RowKind::preference, 10,
            "(chosen_messages, rejected_messages"},
           {"llama-factory/kto_en_demo.json", RowKind::unpaired, 300, "(messages + label)"},
           {"llama-factory/reason_tool_use_demo_50.jsonl", RowKind::conversation, 50, "(column messages)"},
           {"llama-factory/mllm_demo.json", RowKind::conversation, 6, "not read: images"},
           {"llama-factory/mllm_audio_demo.json", RowKind::conversation, 3, "not read: audios"},
           {"llama-factory/v1_multimodal_demo.jsonl", RowKind::conversation, 24, "(column messages)"},
           {"gsm8k/train.jsonl", RowKind::prompt_completion, 7473, "questions and answers"},
           {"gsm8k/test.jsonl", RowKind::prompt_completion, 1319, "questions and answers"},
           {"alpaca/seed_tasks.jsonl", RowKind::prompt_completion, 175, "Alpaca seed tasks"},
           {"sft-pack/tokenized_sft_sample.json", RowKind::tokenised, 75, "token ids with labels"}}) {
    SCOPED_TRACE(e.name);
    const auto rows = open_dataset(test_data(std::string("datasets/") + e.name));
    const DatasetShape shape =
        detect_shape(*rows, {.has_chat_template = true, .use = RowUse::any, .allow_media = true});
    EXPECT_EQ(shape.kind, e.kind);
    EXPECT_EQ(rows->size(), e.rows);
    EXPECT_HAS(shape.explanation, e.explanation);
    for (int64_t i = 0; i < rows->size(); ++i) read_training_row(rows->row(i), shape, rows->where(i));
  }
}

TEST(RealData, WhatSupervisedTrainingRefuses) {
  SERVAL_NEEDS_DATA("datasets/llama-factory/identity.json");
  const auto error = [](const std::string& name) {
    return error_of([&] {
      const auto rows = open_dataset(test_data("datasets/llama-factory/" + name));
      detect_shape(*rows, {.has_chat_template = true});
    });
  };
  EXPECT_HAS(error("dpo_en_demo.json"), "preference training (DPO");
  EXPECT_HAS(error("v1_dpo_demo.jsonl"), "preference training (DPO");
  EXPECT_HAS(error("kto_en_demo.json"), "KTO");
  EXPECT_HAS(error("mllm_demo.json"), "'images' asks for training on media");
  EXPECT_HAS(error("v1_multimodal_demo.jsonl"), "has a part of type \"image_url\"");
  EXPECT_HAS(error("dataset_info.json"), "dataset_info.json:1: not valid JSON");
  EXPECT_HAS(error("mllm_demo_data/1.jpg"), "neither JSONL");
}

// Tool calls of ShareGPT turns through a real template.
TEST(RealData, ToolCallsReachTheTemplate) {
  SERVAL_NEEDS_DATA("datasets/llama-factory/glaive_toolcall_en_demo.json");
  const auto rows = open_dataset(test_data("datasets/llama-factory/glaive_toolcall_en_demo.json"));
  const Tokenizer tokenizer = Tokenizer::from_directory(qwen());
  const ChatTemplate chat_template = training_template();
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
  const TokenizedData data =
      tokenize_dataset(*rows, shape, tokenizer, &chat_template, {.mask = {.assistant_only_loss = true}});
  EXPECT_EQ(data.examples.size(), 300);
  const std::string text = preview_examples(data.examples, tokenizer, 1, false);
  EXPECT_HAS(text, "<tools>");
  EXPECT_HAS(text, R"(<tool_call>
{"name": "search_recipes", "arguments": {"ingredients": ["chicken", "bell peppers", "rice"]}}
</tool_call>)");
}

}  // namespace
}  // namespace serval
