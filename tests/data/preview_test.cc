#include "data/preview.h"

#include <gtest/gtest.h>

#include "data/example.h"
#include "data_test_tools.h"

namespace serval {
namespace {

TEST(Preview, MarksTrainedText) {
  const std::vector<PreviewPiece> pieces = {{"user", false}, {" ", false},  {"", true},    {"yes", true},
                                            {"", false},     {" no", true}, {"\n", false}, {"end", true}};
  EXPECT_EQ(preview_text(pieces, false), "user [[yes no]]\n[[end]]");
  EXPECT_EQ(preview_text(pieces, true), "user \x1b[32myes no\x1b[0m\n\x1b[32mend\x1b[0m");
  EXPECT_EQ(preview_text({}, true), "");
}

TEST(Preview, ControlCharactersOfTheDatasetAreShown) {
  const std::vector<PreviewPiece> pieces = {
      {"a\x1b[2J\r\x7f\xC2\x9B"
       "b\tc\n\xC3\xA9",
       false}};
  EXPECT_EQ(preview_text(pieces, true), "a\\x1b[2J\\x0d\\x7f\\x9bb\tc\n\xC3\xA9");
}

TEST(Preview, Examples) {
  const std::string directory = testing::fixture("data/tokenizer_plain");
  const Tokenizer tokenizer = Tokenizer::from_directory(directory);
  const ChatTemplate chat_template = ChatTemplate::from_directory(directory);
  const auto rows = open_dataset(testing::fixture("data/messages.jsonl"));
  const DatasetShape shape = detect_shape(*rows, {.has_chat_template = true});
  const TokenizedData data =
      tokenize_dataset(*rows, shape, tokenizer, &chat_template, {.mask = {.assistant_only_loss = true}});
  const std::string text = preview_examples(data.examples, tokenizer, 2, false);
  EXPECT_HAS(text,
             "<|im_start|>user\nWho sells bread in Belm?<|im_end|>\n<|im_start|>assistant\n"
             "[[Old Mira sells bread.<|im_end|>]]\n");
  EXPECT_HAS(text, "[[42<|im_end|>]]");
  EXPECT_HAS(text, "--- example 2: ");
  EXPECT_EQ(text.find("--- example 3: "), std::string::npos);
  EXPECT_HAS(preview_examples(data.examples, tokenizer, 9, true), "\x1b[32mはい 🙂 <|im_end|>\x1b[0m");
}

}  // namespace
}  // namespace serval
