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
  const TokenizedData spans = tokenize_dataset(*rows, shape, tokenizer, &chat_template,
                                               {.assistant_only_loss = true, .completion_only_loss = false});
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
  EXPECT_HAS(error_of([&] { detect_shape(*rows, {}); }), "question, answer");
  const Tokenizer tokenizer = Tokenizer::from_directory(qwen());
  const DatasetShape shape = detect_shape(*rows, {.text_field = "question"});
  const TokenizedData data = tokenize_dataset(*rows, shape, tokenizer, nullptr, {});
  EXPECT_EQ(data.examples.size(), 7473);
  std::string question = rows->row(7472).at("question").as_string();
  const auto eos = tokenizer.eos_id();
  if (eos) question += tokenizer.id_to_token(*eos);
  EXPECT_EQ(tokenizer.decode(data.examples.ids(7472)), question);
}

TEST(RealData, DemosOfOtherKinds) {
  SERVAL_NEEDS_DATA("datasets/llama-factory/identity.json");
  const auto error = [](const std::string& name) {
    return error_of([&] {
      const auto rows = open_dataset(test_data("datasets/llama-factory/" + name));
      detect_shape(*rows, {.has_chat_template = true});
    });
  };
  EXPECT_HAS(error("glaive_toolcall_en_demo.json"), "no known kind of dataset");
  EXPECT_HAS(error("dpo_en_demo.json"), "no known kind of dataset");
  EXPECT_HAS(error("v1_dpo_demo.jsonl"), "no known kind of dataset");
  EXPECT_HAS(error("mllm_demo.json"), "'images' asks for training on media");
  EXPECT_HAS(error("dataset_info.json"), "dataset_info.json:1: not valid JSON");
  EXPECT_HAS(error("mllm_demo_data/1.jpg"), "neither JSONL");
  for (const char* name : {"identity.json", "kto_en_demo.json", "reason_tool_use_demo_50.jsonl"}) {
    const auto rows = open_dataset(test_data(std::string("datasets/llama-factory/") + name));
    const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
    for (int64_t i = 0; i < rows->size(); ++i) read_training_row(rows->row(i), shape, rows->where(i));
  }
}

}  // namespace
}  // namespace serval
