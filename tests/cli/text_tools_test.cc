// Tokenizers of every source and chat templates by name, through the verbs that use them.
#include "base/error.h"
#include "cli/program.h"
#include "formats/safetensors.h"
#include "text/template_library.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

std::string chats(const std::string& directory) {
  std::string rows;
  for (const char* answer : {"yes", "no", "seven"})
    rows += std::string(R"({"messages": [{"role": "user", "content": "one two"}, {"role": "assistant", )") +
            R"("content": ")" + answer + "\"}]}\n";
  return write_file(directory, "chats.jsonl", rows);
}

// The demo's tokenizer with other words in its files.
std::string tokenizer_with(const std::string& path, const std::string& from, const std::string& to) {
  model_folder(path, Json());
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    std::string text = read_file(join_path(path, name));
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
    write_file(path, name, text);
  }
  return path;
}

Finished train(const std::string& root, const std::string& out, Words more) {
  more.insert(more.end(), {"--max-steps", "1", "--dataset-cache-dir", root + "/cache"});
  return run_serval(train_words(chats(root), root + "/" + out, more));
}

std::string rendered(const std::string& chat_template, const std::string& tokenizer,
                     const std::string& rows) {
  const Finished run =
      run_serval({"render", "--tokenizer", tokenizer, "--template", chat_template, "--conversations", rows});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return run.out;
}

TEST(ChatTemplateKey, WhatIsTrainedIsShippedAndPickedUp) {
  const std::string root = scratch_directory(), out = root + "/out";
  Finished run = train(root, "out", {"--chat-template", "phi-3", "--preview", "1"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "chat template: phi-3");
  // Its end of turn is the tokenizer's eos: nothing to say.
  EXPECT_EQ(run.err.find("ends a turn"), std::string::npos) << run.err;
  const std::string shipped = out + "/chat_template.jinja",
                    expected = rendered("phi-3", tiny_model(), chats(root));
  EXPECT_NE(expected, rendered(tiny_model() + "/chat_template.jinja", tiny_model(), chats(root)));
  EXPECT_EQ(rendered(shipped, tiny_model(), chats(root)), expected);
  EXPECT_TRUE(same_bytes(shipped, out + "/merged/chat_template.jinja"));
  run = run_serval(
      {"generate", "--model", tiny_model(), "--adapter", out, "--prompt", "hi", "--max-new-tokens", "2"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "chat template: " + shipped);
  const std::string answer = run.out;
  run = run_serval({"generate", "--model", tiny_model(), "--adapter", out, "--prompt", "hi",
                    "--max-new-tokens", "2", "--chat-template", "phi-3"});
  EXPECT_HAS(run.err, "chat template: phi-3");
  EXPECT_EQ(run.out, answer);
}

TEST(ChatTemplateKey, OtherTemplatesOfTheMergedTokenizerGiveWay) {
  const std::string root = scratch_directory(), tokenizer = model_folder(root + "/tokenizer", Json());
  std::string config = read_file(tokenizer + "/tokenizer_config.json");
  config.insert(config.find('{') + 1, "\"chat_template\": \"old\",");
  write_file(tokenizer, "tokenizer_config.json", config);
  make_directories(tokenizer + "/additional_chat_templates");
  write_file(tokenizer + "/additional_chat_templates", "tool_use.jinja", "old");
  ASSERT_EQ(train(root, "own", {"--tokenizer", tokenizer}).exit_code, 0);
  const std::string own = root + "/own/merged";
  EXPECT_TRUE(same_bytes(tokenizer + "/chat_template.jinja", own + "/chat_template.jinja"));
  EXPECT_TRUE(same_bytes(tokenizer + "/tokenizer_config.json", own + "/tokenizer_config.json"));
  EXPECT_TRUE(file_exists(own + "/additional_chat_templates/tool_use.jinja"));
  ASSERT_EQ(train(root, "named", {"--tokenizer", tokenizer, "--chat-template", "phi-3"}).exit_code, 0);
  const std::string named = root + "/named/merged";
  EXPECT_FALSE(directory_exists(named + "/additional_chat_templates"));
  const Json written = Json::parse(read_file(named + "/tokenizer_config.json"), named);
  EXPECT_EQ(written.at("chat_template").as_string(), read_file(named + "/chat_template.jinja"));
  EXPECT_EQ(written.at("eos_token").as_string(), "<|end|>");
}

TEST(ChatTemplateKey, NoneOfAnEarlierRunStays) {
  const std::string root = scratch_directory(), bare = model_folder(root + "/tokenizer", Json());
  remove_tree(bare + "/chat_template.jinja");
  const std::string data = write_texts(root, 4), out = root + "/out";
  ASSERT_EQ(train(root, "out", {"--chat-template", "phi-3"}).exit_code, 0);
  ASSERT_TRUE(file_exists(out + "/chat_template.jinja"));
  const Finished run =
      run_serval(train_words(data, out, {"--max-steps", "1", "--tokenizer", bare, "--overwrite-output-dir"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_FALSE(file_exists(out + "/chat_template.jinja"));
  EXPECT_FALSE(file_exists(out + "/merged/chat_template.jinja"));
}

TEST(ChatTemplateKey, BelongsToTheCache) {
  const std::string root = scratch_directory();
  const auto was_kept = [&](const Words& more) {
    Words words = {"--overwrite-output-dir"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished run = train(root, "out", words);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return run.err.find("from the cache") != std::string::npos;
  };
  const std::string file = root + "/mine.jinja";
  write_file(root, "mine.jinja", "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}");
  EXPECT_FALSE(was_kept({}));
  EXPECT_FALSE(was_kept({"--chat-template", file}));
  EXPECT_FALSE(was_kept({"--chat-template", "phi-3"}));
  EXPECT_TRUE(was_kept({}));
  EXPECT_TRUE(was_kept({"--chat-template", "tokenizer_default"}));
  EXPECT_TRUE(was_kept({"--chat-template", file}));
  write_file(root, "mine.jinja", "{% for m in messages %}{{ m.content }} <|end|>{% endfor %}");
  EXPECT_FALSE(was_kept({"--chat-template", file}));
}

TEST(ChatTemplateKey, EndOfTurnMustBeAToken) {
  const std::string root = scratch_directory(), data = chats(root);
  const char* why = "it ends a turn with \"<|im_end|>\", which is no token of";
  for (const Words& words : std::vector<Words>{
           {"train", "--model", tiny_model(), "--dataset", data, "--output-dir", root + "/out"},
           {"eval", "--model", tiny_model(), "--dataset", data},
           {"generate", "--model", tiny_model(), "--prompt", "x"},
           {"chat", "--model", tiny_model()},
           {"plan", "--model", tiny_model(), "--dataset", data},
           {"data", "stats", "--model", tiny_model(), "--dataset", data},
           {"data", "preview", "--model", tiny_model(), "--dataset", data}}) {
    Words named = words;
    named.insert(named.end(), {"--chat-template", "chatml"});
    EXPECT_FAILS(run_serval(named), 1, why);
  }
  // Where it is one and the eos another, that is said and nothing changed.
  const std::string tokenizer = tokenizer_with(root + "/tokenizer", "<|pad|>", "<|im_end|>");
  const Finished run = train(root, "out", {"--tokenizer", tokenizer, "--chat-template", "chatml"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "ends a turn with \"<|im_end|>\" (1), the tokenizer's eos is \"<|end|>\" (0)");
  EXPECT_TRUE(same_bytes(tokenizer + "/tokenizer_config.json", root + "/out/merged/tokenizer_config.json"));
  EXPECT_FAILS(
      run_serval({"data", "stats", "--model", tiny_model(), "--dataset", data, "--chat-template", "chatlm"}),
      1, "did you mean 'chatml'");
  EXPECT_FAILS(run_serval({"data", "stats", "--model", tiny_model(), "--dataset", data, "--chat-template",
                           "no.jinja"}),
               1, "no.jinja: no such file");
}

TEST(TokenizerSource, AGgufGivesTokenizerAndTemplate) {
  const std::string root = scratch_directory(), gguf = fixture("text/sources/gguf_llama/vocabulary.gguf");
  const Finished run = train(root, "out", {"--tokenizer", gguf});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "note: the tokenizer is read from " + gguf);
  EXPECT_HAS(run.err, "chat template: " + gguf);
  EXPECT_TRUE(file_exists(root + "/out/chat_template.jinja"));
  EXPECT_TRUE(same_bytes(root + "/out/chat_template.jinja", root + "/out/merged/chat_template.jinja"));
  EXPECT_EQ(list_directory(root + "/out/merged"),
            (Words{"chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json",
                   "tokenizer_config.json"}));
  // Other programs find the tokenizer, and so does serval where none is named.
  EXPECT_TRUE(same_bytes(root + "/out/tokenizer.json", root + "/out/merged/tokenizer.json"));
  const Finished found = run_serval({"generate", "--model", tiny_model(), "--adapter", root + "/out",
                                     "--prompt", "x", "--max-new-tokens", "1"});
  EXPECT_EQ(found.exit_code, 0) << found.err;
  const Finished answer = run_serval({"generate", "--model", tiny_model(), "--tokenizer", gguf, "--adapter",
                                      root + "/out", "--prompt", "x", "--max-new-tokens", "1"});
  EXPECT_EQ(answer.exit_code, 0) << answer.err;
  const Finished eval = run_serval({"eval", "--model", tiny_model(), "--tokenizer", gguf, "--dataset",
                                    root + "/chats.jsonl", "--dataset-cache", "false"});
  EXPECT_EQ(eval.exit_code, 0) << eval.err;
  EXPECT_HAS(eval.err, "the tokenizer is read from");
}

TEST(TokenizerSource, AFileIsShippedWithItsSettings) {
  const std::string root = scratch_directory(), folder = root + "/tokenizer";
  make_directories(folder);
  for (const char* name :
       {"tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
    write_file(folder, name, read_file(fixture(std::string("text/sources/hf_llama/") + name)));
  write_file(folder, "vocab.txt", "another\n");
  const Finished run =
      train(root, "out", {"--tokenizer", folder + "/tokenizer.model", "--chat-template", "llama"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(list_directory(root + "/out/merged"),
            (Words{"added_tokens.json", "chat_template.jinja", "config.json", "model.safetensors",
                   "special_tokens_map.json", "tokenizer.model", "tokenizer_config.json"}));
}

TEST(TokenizerSource, ABuiltInTemplateBringsTheTokensThatNobodyNames) {
  const std::string root = scratch_directory(), folder = root + "/tokenizer";
  make_directories(folder);
  // A tokenizer.json alone names no eos.
  std::string text = read_file(tiny_model() + "/tokenizer.json");
  for (size_t at = text.find("<|end|>"); at != std::string::npos; at = text.find("<|end|>", at))
    text.replace(at, 7, "</s>");
  write_file(folder, "tokenizer.json", text);
  const Finished run = train(root, "out", {"--tokenizer", folder, "--chat-template", "zephyr"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "the tokenizer names no eos");
  const std::string shipped = root + "/out/merged/chat_template.jinja";
  EXPECT_HAS(rendered("zephyr", folder, chats(root)), "yes</s>");
  EXPECT_EQ(rendered(shipped, folder, chats(root)), rendered("zephyr", folder, chats(root)));
}

TEST(TokenizerFindings, AreToldOnceAndNothingIsChanged) {
  const std::string root = scratch_directory();
  const std::string model = root + "/model";
  make_directories(model);
  for (const std::string& name : list_directory(tiny_model()))
    if (file_exists(join_path(tiny_model(), name)))
      write_file(model, name, read_file(join_path(tiny_model(), name)));
  write_file(model, "tokenizer_config.json",
             R"({"bos_token": "<none>", "eos_token": "<|end|>", "pad_token": "<|end|>"})");
  // Nobody ever trained <|end|>.
  std::string bytes = read_file(model + "/model.safetensors");
  {
    const SafetensorsFile file(model + "/model.safetensors");
    const SafetensorsEntry& table = *file.find("model.embed_tokens.weight");
    std::fill_n(bytes.begin() + static_cast<int64_t>(table.begin), table.dims[1] * 2, '\0');
  }
  write_file(model, "model.safetensors", bytes);
  const std::string data = chats(root);
  const Finished run = run_serval({"train", "--model", model, "--dataset", data, "--output-dir",
                                   root + "/out", "--max-steps", "1", "--dataset-cache", "false"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  for (const char* part :
       {"warning: tokenizer_config.json names \"<none>\" as bos_token",
        "note: pad and eos are both \"<|end|>\" (0)", "never trained on: \"<|end|>\" (0)"}) {
    EXPECT_HAS(run.err, part);
    EXPECT_EQ(run.err.find(part), run.err.rfind(part)) << part;
  }
  EXPECT_TRUE(same_bytes(model + "/tokenizer_config.json", root + "/out/merged/tokenizer_config.json"));
  const Finished stats =
      run_serval({"data", "stats", "--model", model, "--dataset", data, "--dataset-cache", "false"});
  ASSERT_EQ(stats.exit_code, 0) << stats.err;
  EXPECT_HAS(stats.err, "pad and eos are both");
  EXPECT_EQ(run_serval({"data", "stats", "--model", tiny_model(), "--dataset", data}).err.find("warning"),
            std::string::npos);
}

}  // namespace
}  // namespace serval::testing
