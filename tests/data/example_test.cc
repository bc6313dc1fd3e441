#include "data/example.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/parallel.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::fixture;
using testing::integers;
using testing::write_dataset;

struct Model {
  explicit Model(const std::string& directory)
      : tokenizer(Tokenizer::from_directory(directory)),
        chat_template(ChatTemplate::from_directory(directory)) {}
  Tokenizer tokenizer;
  ChatTemplate chat_template;
};

TokenizedData tokenize(const std::string& path, const Model& model, const ExampleOptions& options,
                       const TokenizeProgress& progress = {}) {
  const auto rows = open_dataset(path);
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
  return tokenize_dataset(*rows, shape, model.tokenizer, &model.chat_template, options, progress);
}

ExampleOptions options_of(const Json& json) {
  ExampleOptions options;
  for (const auto& [name, value] : json.as_object()) {
    if (name == "max_length") options.max_length = value.as_int();
    if (name == "assistant_only_loss") options.mask.assistant_only_loss = value.as_bool();
    if (name == "completion_only_loss") options.mask.completion_only_loss = value.as_bool();
    if (name == "truncation_mode") options.truncation = truncation_from_name(value.as_string());
    if (name == "instruction_part") options.mask.instruction_part = value.as_string();
    if (name == "response_part") options.mask.response_part = value.as_string();
    if (name == "last_turn_only") options.mask.last_turn_only = value.as_bool();
  }
  return options;
}

std::vector<int32_t> labels_of(const Examples& examples, int64_t example) {
  std::vector<int32_t> labels(examples.ids(example).begin(), examples.ids(example).end());
  for (size_t i = 0; i < labels.size(); ++i)
    if (!examples.trained(example, static_cast<int64_t>(i))) labels[i] = -100;
  return labels;
}

Json expected_cases() {
  const std::string path = fixture("data/expected.json");
  return Json::parse(read_file(path), path).at("cases");
}

TEST(Example, TokensAndLabelsAreTrls) {
  const Json cases = expected_cases();
  for (const auto& [name, expected] : cases.as_object()) {
    SCOPED_TRACE(name);
    const Model model(fixture("data/" + expected.at("tokenizer").as_string()));
    const TokenizedData data = tokenize(fixture("data/" + expected.at("dataset").as_string()), model,
                                        options_of(expected.at("options")));
    const auto& rows = expected.at("rows").as_array();
    ASSERT_EQ(data.examples.size(), static_cast<int64_t>(rows.size()));
    EXPECT_EQ(data.statistics.rows, data.statistics.examples + data.statistics.dropped);
    for (int64_t i = 0; i < data.examples.size(); ++i) {
      SCOPED_TRACE(i);
      const Json& row = rows[static_cast<size_t>(i)];
      const auto ids = data.examples.ids(i);
      EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()), integers(row.at("input_ids")));
      if (name == "straddle") continue;  // the next test
      EXPECT_EQ(labels_of(data.examples, i), integers(row.at("labels")));
    }
  }
}

// Where one token holds letters of prompt and completion, TRL trains it and we do not; nothing else differs.
TEST(Example, TokensAcrossTheBoundaryAreMasked) {
  const Json expected = expected_cases().at("straddle");
  const Model model(fixture("data/tokenizer_plain"));
  const TokenizedData data = tokenize(fixture("data/straddle.jsonl"), model, {});
  EXPECT_EQ(data.statistics.boundary_mismatches, 2);
  ASSERT_EQ(data.notes.size(), 1u);
  EXPECT_HAS(data.notes[0], "in 2 rows the prompt has other tokens alone");
  for (int64_t i = 0; i < 2; ++i) {
    std::vector<int32_t> trl = integers(expected.at("rows").as_array()[static_cast<size_t>(i)].at("labels"));
    const auto first = std::find_if(trl.begin(), trl.end(), [](int32_t label) { return label != -100; });
    ASSERT_NE(first, trl.end());
    *first = -100;
    EXPECT_EQ(labels_of(data.examples, i), trl);
  }
}

TEST(Example, StatisticsAndNotes) {
  const Model model(fixture("data/tokenizer_plain"));
  const TokenizedData data = tokenize(fixture("data/prompt_completion.jsonl"), model, {.max_length = 24});
  EXPECT_EQ(data.statistics.rows, 7);
  EXPECT_EQ(data.statistics.dropped, 1);
  EXPECT_GE(data.statistics.truncated, 1);
  EXPECT_EQ(data.statistics.tokens, data.examples.num_tokens());
  EXPECT_EQ(data.statistics.labels, data.examples.num_labels());
  EXPECT_LE(data.statistics.longest, 24);
  ASSERT_GE(data.notes.size(), 2u);
  EXPECT_HAS(data.notes[0], "longer than max_length 24");
  EXPECT_HAS(data.notes[1], "1 of 7 rows are left out");
  EXPECT_HAS(data.statistics.text(), "6 examples of 7 rows");
}

TEST(Example, ThreadsChangeNothing) {
  std::string content;
  for (int i = 0; i < 3000; ++i)
    content +=
        "{\"text\": \"" + std::string(static_cast<size_t>(1 + i % 40), 'a') + std::to_string(i) + "\"}\n";
  const std::string path = write_dataset(content);
  const Model model(fixture("data/tokenizer_plain"));
  const auto run = [&](int threads) {
    set_num_threads(threads);
    std::vector<int64_t> calls;
    TokenizedData data = tokenize(path, model, {}, [&](int64_t done, int64_t total) {
      EXPECT_EQ(total, 3000);
      EXPECT_TRUE(calls.empty() || calls.back() < done);
      calls.push_back(done);
    });
    EXPECT_EQ(calls.back(), 3000);
    set_num_threads(0);
    return data;
  };
  const TokenizedData one = run(1), three = run(3);
  ASSERT_EQ(one.examples.size(), 3000);
  for (int64_t i = 0; i < 3000; ++i) EXPECT_EQ(labels_of(one.examples, i), labels_of(three.examples, i));
}

TEST(Example, TheFirstWrongRowIsReported) {
  std::string content;
  for (int i = 0; i < 2000; ++i)
    content += i % 700 == 650 ? "{\"text\": 5}\n" : "{\"text\": \"some text\"}\n";
  const std::string path = write_dataset(content);
  const Model model(fixture("data/tokenizer_plain"));
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    EXPECT_HAS(error_of([&] { tokenize(path, model, {}); }),
               "rows.jsonl:651: 'text' must be text but is integer");
  }
  set_num_threads(0);
}

TEST(Example, OneTokenDocumentsAreLeftOut) {
  const Model model(fixture("data/tokenizer_plain"));
  const TokenizedData data = tokenize(write_dataset("{\"text\": \"\"}\n{\"text\": \"a\"}\n"), model, {});
  EXPECT_EQ(data.examples.size(), 1);
  EXPECT_EQ(data.statistics.dropped, 1);
  EXPECT_EQ(data.statistics.labels, 1);
  const std::string path = write_dataset("{\"text\": \"\"}\n");
  EXPECT_HAS(error_of([&] { tokenize(path, model, {}); }), "none of its 1 rows has a token to train on");
}

TEST(Example, RefusedOptions) {
  const Model model(fixture("data/tokenizer_plain"));
  const auto error = [&](const std::string& data, const ExampleOptions& options) {
    return error_of([&] { tokenize(fixture("data/" + data), model, options); });
  };
  EXPECT_HAS(error("text.jsonl", {.mask = {.assistant_only_loss = true}}),
             "assistant_only_loss needs conversations");
  EXPECT_HAS(error("messages.jsonl", {.mask = {.completion_only_loss = true}}),
             "completion_only_loss needs rows with a prompt");
  const auto rows = open_dataset(fixture("data/messages.jsonl"));
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
  const ChatTemplate refusing("{{ raise_exception('roles must alternate') }}", Json::object(),
                              "refusing.jinja");
  const std::string refused =
      error_of([&] { tokenize_dataset(*rows, shape, model.tokenizer, &refusing, {}); });
  EXPECT_HAS(refused, "messages.jsonl:1: ");
  EXPECT_HAS(refused, "roles must alternate");
}

// What is trained, in [[ ]], and where a weight is not 1, that weight before it.
std::string marked(const TokenizedData& data, const Tokenizer& tokenizer, int64_t example = 0) {
  std::string text;
  float before = 0;
  const auto ids = data.examples.ids(example);
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto place = static_cast<int64_t>(i);
    const float weight = data.examples.trained(example, place) ? data.examples.weight(example, place) : 0;
    if (weight != before) {
      if (before != 0) text += "]]";
      if (weight != 0) text += weight == 1 ? "[[" : fmt::format("{}[[", weight);
    }
    before = weight;
    text += tokenizer.decode(ids.subspan(i, 1));
  }
  return before != 0 ? text + "]]" : text;
}

struct Marked {
  Model model{fixture("data/tokenizer_plain")};
  std::string operator()(const std::string& row, const MaskOptions& mask) const {
    const TokenizedData data =
        tokenize(write_dataset(Json::parse(row, "row").dump() + "\n"), model, {.mask = mask});
    return marked(data, model.tokenizer);
  }
};

const char* const kTwoTurns =
    R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "le chat"}, {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "No."}]})";

TEST(Example, MasksByRoleAndTurn) {
  const Marked masked;
  const std::string head = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nthe cat<|im_end|>\n";
  EXPECT_EQ(masked(kTwoTurns, {.assistant_only_loss = true}),
            head +
                "<|im_start|>assistant\n[[le chat<|im_end|>]]\n<|im_start|>user\nSure?<|im_end|>\n"
                "<|im_start|>assistant\n[[No.<|im_end|>]]\n");
  EXPECT_EQ(masked(kTwoTurns, {.last_turn_only = true}),
            head +
                "<|im_start|>assistant\nle chat<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n"
                "<|im_start|>assistant\n[[No.<|im_end|>]]\n");
  const std::string users = masked(kTwoTurns, {.train_on_roles = {"user"}});
  EXPECT_HAS(users, "S<|im_end|>\n<|im_start|>user\n[[the cat<|im_end|>");
  EXPECT_HAS(users, "<|im_start|>assistant\nle chat<|im_end|>\n<|im_start|>user\n[[Sure?<|im_end|>");
  EXPECT_HAS(masked(kTwoTurns, {.train_on_roles = {"user", "assistant"}, .last_turn_only = true}),
             "Sure?<|im_end|>\n<|im_start|>assistant\n[[No.<|im_end|>]]");
}

TEST(Example, MasksWithoutMarksInTheTemplate) {
  const Model model(fixture("data/tokenizer_plain"));
  const ChatTemplate plain(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
      Json::object(), "plain.jinja");
  const auto rows = open_dataset(write_dataset(Json::parse(kTwoTurns, "row").dump()));
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
  const TokenizedData data =
      tokenize_dataset(*rows, shape, model.tokenizer, &plain, {.mask = {.assistant_only_loss = true}});
  const std::string text = marked(data, model.tokenizer);
  EXPECT_HAS(text, "<|im_start|>assistant\n[[le chat<|im_end|>");
  EXPECT_HAS(text, "Sure?<|im_end|>\n<|im_start|>assistant\n[[No.<|im_end|>");
  EXPECT_HAS(text, "]]<|im_start|>user\nSure?");
}

TEST(Example, WeightsOfMessagesAndOfPrompts) {
  const Marked masked;
  const char* row = R"({"messages": [{"role": "user", "content": "the cat"},
      {"role": "assistant", "content": "le chat", "weight": 0}, {"role": "user", "content": "Sure?", "train": true},
      {"role": "assistant", "content": "No.", "loss_weight": 0.5}]})";
  const std::string text = masked(row, {.assistant_only_loss = true});
  EXPECT_HAS(text, "<|im_start|>assistant\nle chat<|im_end|>\n<|im_start|>user\n[[Sure?<|im_end|>");
  EXPECT_HAS(text, "<|im_start|>assistant\n0.5[[No.<|im_end|>]]");
  EXPECT_EQ(masked(R"({"prompt": "the cat", "completion": " = le chat"})", {.prompt_loss_weight = 0.25}),
            "0.25[[the cat]][[ = le chat<|endoftext|>]]");
  // A message of weight 0 stays out even where prompts count a little.
  EXPECT_HAS(masked(row, {.assistant_only_loss = true, .prompt_loss_weight = 0.25}),
             "0.25[[<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n]]le chat<|im_end|>0.25[[");
  // Answers of an Alpaca history are trained, the instructions are not.
  EXPECT_EQ(masked(R"({"instruction": "Sure?", "output": "No.", "history": [["the cat", "le chat"]]})", {}),
            "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n[[le chat<|im_end|>]]\n"
            "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n[[No.<|im_end|>\n]]");
  EXPECT_HAS(masked(R"({"instruction": "Sure?", "output": "No.", "history": [["the cat", "le chat"]]})",
                    {.last_turn_only = true}),
             "assistant\nle chat<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n[[No.");
}

// Axolotl's train_on_eos, worked out by hand from its rules: content of the trained turns, then the token
// that ends a turn as the option says, and never what stands behind it.
TEST(Example, EndsOfTurns) {
  const Marked masked;
  const auto with = [&](TurnEnds ends, std::vector<std::string> roles = {}) {
    return masked(kTwoTurns,
                  {.train_on_roles = std::move(roles), .ends = ends, .eot_tokens = {"<|im_end|>"}});
  };
  const std::string a = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nthe cat<|im_end|>\n",
                    b = "<|im_start|>user\nSure?<|im_end|>\n", answer = "<|im_start|>assistant\n";
  EXPECT_EQ(with(TurnEnds::turn),
            a + answer + "[[le chat<|im_end|>]]\n" + b + answer + "[[No.<|im_end|>]]\n");
  EXPECT_EQ(with(TurnEnds::none),
            a + answer + "[[le chat]]<|im_end|>\n" + b + answer + "[[No.]]<|im_end|>\n");
  EXPECT_EQ(with(TurnEnds::last),
            a + answer + "[[le chat]]<|im_end|>\n" + b + answer + "[[No.<|im_end|>]]\n");
  EXPECT_EQ(with(TurnEnds::all),
            "<|im_start|>system\nS[[<|im_end|>]]\n<|im_start|>user\nthe cat[[<|im_end|>]]\n" + answer +
                "[[le chat<|im_end|>]]\n<|im_start|>user\nSure?[[<|im_end|>]]\n" + answer +
                "[[No.<|im_end|>]]\n");
  EXPECT_EQ(with(TurnEnds::turn, {"human"}),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n[[the cat<|im_end|>]]\n" + answer +
                "le chat<|im_end|>\n<|im_start|>user\n[[Sure?<|im_end|>]]\n" + answer + "No.<|im_end|>\n");
  // All turns, but not what the template puts between them.
  EXPECT_EQ(
      masked(kTwoTurns, {.train_on_inputs = true, .ends = TurnEnds::turn, .eot_tokens = {"<|im_end|>"}}),
      "<|im_start|>system\n[[S<|im_end|>]]\n<|im_start|>user\n[[the cat<|im_end|>]]\n" + answer +
          "[[le chat<|im_end|>]]\n<|im_start|>user\n[[Sure?<|im_end|>]]\n" + answer + "[[No.<|im_end|>]]\n");
  EXPECT_EQ(masked(kTwoTurns, {.ends = TurnEnds::turn, .eot_tokens = {"<|im_end|>"}, .last_turn_only = true}),
            a + answer + "le chat<|im_end|>\n" + b + answer + "[[No.<|im_end|>]]\n");
  // What is left out still counts a little where it is told to.
  EXPECT_HAS(
      masked(kTwoTurns, {.ends = TurnEnds::none, .eot_tokens = {"<|im_end|>"}, .prompt_loss_weight = 0.5}),
      "]][[le chat]]0.5[[<|im_end|>\n");
}

// The example of Axolotl's documentation (fine-grained control).
TEST(Example, TurnsAndCharactersThatMessagesName) {
  const Marked masked;
  const char* row = R"({"conversations": [{"from": "system", "value": "S", "train": false},
      {"from": "human", "value": "the cat", "train": false}, {"from": "assistant", "value": "le chat", "train": true},
      {"from": "human", "value": "Sure?", "train": true},
      {"from": "assistant", "value": "No. the cat é the cat", "train_detail": [
        {"begin_offset": 0, "end_offset": 2, "train": true}, {"begin_offset": 3, "end_offset": 10, "train": false},
        {"begin_offset": 12, "end_offset": 12, "train": true}, {"begin_offset": 13, "end_offset": 20, "train": false}]}]})";
  const std::string expected =
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
      "[[le chat<|im_end|>]]\n<|im_start|>user\n[[Sure?<|im_end|>]]\n<|im_start|>assistant\n[[No.]] the cat";
  const std::string text =
      masked(row, {.train_on_roles = {""}, .ends = TurnEnds::turn, .eot_tokens = {"<|im_end|>"}});
  EXPECT_TRUE(text.starts_with(expected)) << text;
  EXPECT_TRUE(text.ends_with(" the cat[[<|im_end|>]]\n")) << text;
  EXPECT_EQ(std::count(text.begin() + static_cast<std::ptrdiff_t>(expected.size()), text.end(), '['), 4)
      << text;
  // Parts say it of themselves.
  EXPECT_EQ(
      masked(R"({"messages": [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": [
      {"type": "text", "text": "the cat", "train": false}, {"type": "text", "text": " le chat"},
      {"type": "text", "text": "\nNo.", "weight": 0}]}]})",
             {.ends = TurnEnds::turn, .eot_tokens = {"<|im_end|>"}}),
      "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nthe cat[[ le chat]]\nNo.[[<|im_end|>]]\n");
}

TEST(Example, TrainOnInputs) {
  const Marked masked;
  const char* pair = R"({"prompt": "the cat", "completion": " = le chat"})";
  EXPECT_EQ(masked(pair, {.train_on_inputs = true}), "[[the cat = le chat<|endoftext|>]]");
  EXPECT_EQ(masked(pair, {.train_on_inputs = false}), masked(pair, {}));
  EXPECT_EQ(masked(kTwoTurns, {.train_on_inputs = false}), masked(kTwoTurns, {.assistant_only_loss = true}));
  EXPECT_EQ(masked(kTwoTurns, {.train_on_inputs = true}), masked(kTwoTurns, {}));
}

TEST(Example, SegmentsAreJoinedAsTheyStand) {
  const Marked masked;
  EXPECT_EQ(masked(R"({"segments": [{"label": false, "text": "the cat"}, {"label": true, "text": " le chat"},
      {"label": false, "text": "\n"}, {"label": true, "text": "No.<|im_end|>"}]})",
                   {}),
            "the cat[[ le chat]]\n[[No.<|im_end|>]]");
}

TEST(Example, TruncationModes) {
  const Model model(fixture("data/tokenizer_plain"));
  const std::string path =
      write_dataset("{\"text\": \"abc\"}\n{\"text\": \"The river Ann runs through the town\"}\n");
  const auto run = [&](Truncation truncation) {
    return tokenize(path, model, {.max_length = 6, .truncation = truncation});
  };
  const TokenizedData start = run(Truncation::keep_start), end = run(Truncation::keep_end),
                      drop = run(Truncation::drop);
  EXPECT_EQ(start.examples.length(1), 6);
  EXPECT_EQ(end.examples.length(1), 6);
  EXPECT_EQ(end.examples.ids(1).back(), *model.tokenizer.eos_id());
  EXPECT_NE(start.examples.ids(1).back(), *model.tokenizer.eos_id());
  EXPECT_HAS(end.notes[0], "tokens at their start");
  EXPECT_EQ(drop.examples.size(), 1);
  EXPECT_EQ(drop.statistics.over_long, 1);
  EXPECT_HAS(drop.notes[0], "1 of 2 rows are longer than max_length 6 and are left out");
  EXPECT_HAS(error_of([&] { run(Truncation::refuse); }), "rows.jsonl:2: the row has");
  EXPECT_HAS(error_of([] { truncation_from_name("left"); }), "keep_start");
}

TEST(Example, NeverTwoBosTokens) {
  const Model model(fixture("data/tokenizer_bos"));
  const TokenizedData data =
      tokenize(write_dataset("{\"text\": \"<|bos|>the cat\"}\n{\"text\": \"the cat\"}\n"), model, {});
  EXPECT_EQ(std::vector<int32_t>(data.examples.ids(0).begin(), data.examples.ids(0).end()),
            std::vector<int32_t>(data.examples.ids(1).begin(), data.examples.ids(1).end()));
  EXPECT_EQ(data.statistics.double_bos, 1);
  EXPECT_HAS(data.notes[0], "1 of 2 rows began with two BOS tokens");
  const TokenizedData pair =
      tokenize(write_dataset("{\"prompt\": \"<|bos|>the cat\", \"completion\": \" sat\"}\n"), model, {});
  EXPECT_EQ(marked(pair, model.tokenizer), "<|bos|>the cat[[ sat<|endoftext|>]]");
}

TEST(Example, RefusedMasks) {
  const Model model(fixture("data/tokenizer_plain"));
  const auto error = [&](const std::string& data, const MaskOptions& mask) {
    return error_of([&] { tokenize(fixture("data/" + data), model, {.mask = mask}); });
  };
  EXPECT_HAS(error("text.jsonl", {.train_on_roles = {"user"}}), "train_on_roles needs conversations");
  EXPECT_HAS(error("messages.jsonl", {.response_part = "x"}), "belong together");
  EXPECT_HAS(error("text.jsonl", {.ends = TurnEnds::turn}), "train_on_eos needs conversations");
  EXPECT_HAS(error("messages.jsonl", {.assistant_only_loss = true, .train_on_inputs = true}),
             "give one of them");
  EXPECT_HAS(error("messages.jsonl", {.ends = TurnEnds::turn, .eot_tokens = {"the cat"}}),
             "tokens of this tokenizer");
  EXPECT_HAS(error("messages.jsonl", {.ends = TurnEnds::turn, .eot_tokens = {"<|im_start|>"}}),
             "messages.jsonl:1: train_on_eos: no turn ends with a token of eot_tokens (<|im_start|>)");
  const auto row_error = [&](const std::string& message) {
    const std::string path = write_dataset("{\"messages\": [{\"role\": \"assistant\", " + message + "}]}");
    return error_of([&] { tokenize(path, model, {}); });
  };
  EXPECT_HAS(
      row_error(R"("content": "abc", "train_detail": [{"begin_offset": 1, "end_offset": 3, "train": true}])"),
      "has the range 1 to 3, but the content has the characters 0 to 2");
  EXPECT_HAS(row_error(R"("content": "abc", "train_detail": [{"begin_offset": 1}])"), "each item of");
  EXPECT_HAS(row_error(R"("content": "abc", "train_detail": "all")"),
             "must be a list of ranges but is string");
  EXPECT_HAS(row_error(R"("content": [{"type": "text", "text": "a", "weight": 0.5}])"), "counts 0 or 1");
  EXPECT_HAS(error("messages.jsonl", {.instruction_part = "@@", .response_part = "##"}),
             "instruction_part and response_part must stand in the text");
}

}  // namespace
}  // namespace serval
