// New tokens from the configuration to what is shipped: rows that grow, modules that train whole, tokenizer
// files beside adapter and merged checkpoint.
#include <algorithm>
#include <cmath>
#include <map>

#include "cli/program.h"
#include "formats/safetensors.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

constexpr const char* kEmbeddings = "model.embed_tokens.weight";
constexpr const char* kSaved = "base_model.model.model.embed_tokens.weight";

// A random f32 checkpoint with the demo's tokenizer.
std::string base_model(const std::string& root, bool tied) {
  const std::string name = tied ? "tied" : "untied", out = root + "/" + name;
  Json changes = Json::object();
  changes.set("torch_dtype", Json("float32"));
  changes.set("tie_word_embeddings", Json(tied));
  const std::string init = model_folder(root + "/init-" + name, changes), data = write_texts(init, 4);
  const Finished run =
      run_serval({"train", "--init", init + "/config.json", "--dataset", data, "--output-dir", out,
                  "--max-steps", "1", "--use-peft", "false", "--num-threads", "1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return out;
}

std::string new_words(const std::string& root) {
  std::string rows;
  for (int i = 0; i < 8; ++i) rows += "{\"text\": \"<go> river stone <|stop|> seven\"}\n";
  return write_file(root, "words.jsonl", rows);
}

Finished train(const std::string& model, const std::string& root, const std::string& out, Words more) {
  Words words = {"train",
                 "--model",
                 model,
                 "--dataset",
                 new_words(root),
                 "--output-dir",
                 root + "/" + out,
                 "--num-threads",
                 "1",
                 "--max-length",
                 "64",
                 "--dataset-cache-dir",
                 root + "/cache",
                 "--lr-scheduler-type",
                 "constant"};
  words.insert(words.end(), more.begin(), more.end());
  return run_serval(words);
}

const Words kTokens = {"--new-tokens", "<go>", "--new-special-tokens", "<|stop|>"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<float> tensor(const std::string& path, const std::string& name) {
  const SafetensorsFile file(path);
  const SafetensorsEntry* entry = file.find(name);
  if (entry == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(shape_of(*entry, path).elements()));
  file.read(*entry, values.data(), DType::f32);
  return values;
}

double nll(const Words& more) {
  const Finished run = run_serval(with({"eval", "--json", "--num-threads", "1"}, more));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return run.exit_code == 0 ? Json::parse(run.out, "eval").at("mean_nll").as_double() : NAN;
}

TEST(NewTokens, AreLearnedAndShipped) {
  for (const bool tied : {true, false}) {
    const std::string root = scratch_directory(), base = base_model(root, tied), out = root + "/out";
    const Finished run = train(base, root, "out",
                               with(kTokens, {"--lora-modules-to-save", "embed_tokens,lm_head", "--max-steps",
                                              "60", "--learning-rate", "0.01", "--eos-token", "<|stop|>"}));
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_HAS(run.err, "vocabulary: 2 new tokens: \"<|stop|>\", \"<go>\"");
    EXPECT_HAS(run.err, "embeddings and head grow from 768 to 770 rows");
    EXPECT_EQ(run.err.find("are not trained"), std::string::npos);

    const Json adapter = Json::parse(read_file(out + "/adapter_config.json"), "adapter");
    EXPECT_EQ(adapter.at("modules_to_save"), Json(Json::Array{"embed_tokens", "lm_head"}));
    const auto embeddings = tensor(out + "/adapter_model.safetensors", kSaved),
               head = tensor(out + "/adapter_model.safetensors", "base_model.model.lm_head.weight");
    EXPECT_EQ(embeddings.size(), 770u * 32);
    EXPECT_EQ(head.size(), 770u * 32);
    EXPECT_EQ(embeddings == head, tied);
    const Json config = Json::parse(read_file(out + "/merged/config.json"), "config");
    EXPECT_EQ(config.at("vocab_size").as_int(), 770);
    EXPECT_EQ(config.at("eos_token_id").as_int(), 768);
    EXPECT_EQ(config.at("tie_word_embeddings").as_bool(), tied);
    const Json generation = Json::parse(read_file(out + "/merged/generation_config.json"), "generation");
    EXPECT_EQ(generation.at("eos_token_id"), Json(Json::Array{Json(768), Json(0)}));
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      EXPECT_TRUE(same_bytes(join_path(out, name), join_path(out + "/merged", name))) << name;
    EXPECT_HAS(read_file(out + "/tokenizer_config.json"), "\"eos_token\": \"<|stop|>\"");

    // The tokenizer beside the adapter is found, and the model says what it learned up to the new eos.
    for (const Words& model : {Words{"--model", base, "--adapter", out}, Words{"--model", out + "/merged"}}) {
      const Finished said = run_serval(with({"generate", "--raw", "--prompt", "<go>", "--temperature", "0",
                                             "--max-new-tokens", "12", "--num-threads", "1"},
                                            model));
      ASSERT_EQ(said.exit_code, 0) << said.err;
      EXPECT_EQ(said.out, " river stone \n");
    }
    const std::string data = root + "/words.jsonl";
    const double adapted = nll({"--model", base, "--adapter", out, "--dataset", data}),
                 merged = nll({"--model", out + "/merged", "--dataset", data});
    EXPECT_LT(adapted, 0.5);
    EXPECT_NEAR(adapted, merged, 1e-4);

    // Training goes on from the adapter, with its tokenizer and its embeddings.
    const Finished on =
        train(base, root, "on", {"--adapter", out, "--max-steps", "1", "--learning-rate", "0"});
    ASSERT_EQ(on.exit_code, 0) << on.err;
    EXPECT_TRUE(same_bytes(out + "/adapter_model.safetensors", root + "/on/adapter_model.safetensors"));
    EXPECT_TRUE(same_bytes(out + "/tokenizer.json", root + "/on/tokenizer.json"));
    EXPECT_TRUE(same_bytes(out + "/merged/model.safetensors", root + "/on/merged/model.safetensors"));
  }
}

TEST(NewTokens, BeginAsTheMeanAndAreSavedThoughFrozen) {
  const std::string root = scratch_directory(), base = base_model(root, false);
  const Finished run =
      train(base, root, "out",
            with(kTokens, {"--max-steps", "2", "--save-steps", "1", "--resize-vocab-to-multiple-of", "16"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "the rows of new or repaired tokens are not trained");
  const auto start = tensor(base + "/model.safetensors", kEmbeddings),
             saved = tensor(root + "/out/adapter_model.safetensors", kSaved);
  ASSERT_EQ(saved.size(), 784u * 32);
  EXPECT_EQ(std::vector<float>(saved.begin(), saved.begin() + 768 * 32), start);
  for (size_t column = 0; column < 32; ++column) {
    double sum = 0;
    for (size_t row = 0; row < 768; ++row) sum += static_cast<double>(start[row * 32 + column]);
    for (const size_t row : {768, 769, 783}) EXPECT_NEAR(saved[row * 32 + column], sum / 768, 1e-7);
  }
  EXPECT_EQ(tensor(root + "/out/merged/model.safetensors", kEmbeddings), saved);
  // A checkpoint that was written beside the training has them too.
  EXPECT_EQ(tensor(root + "/out/checkpoint-1/adapter_model.safetensors", kSaved), saved);
  EXPECT_TRUE(file_exists(root + "/out/checkpoint-1/tokenizer.json"));
  EXPECT_TRUE(
      Json::parse(read_file(root + "/out/adapter_config.json"), "adapter").at("modules_to_save").is_null());
  const std::string data = root + "/words.jsonl";
  EXPECT_NEAR(nll({"--model", base, "--adapter", root + "/out", "--dataset", data}),
              nll({"--model", root + "/out/merged", "--dataset", data}), 1e-4);
}

TEST(NewTokens, FullFineTuningGrowsTheCheckpoint) {
  const std::string root = scratch_directory(), base = base_model(root, true);
  const Finished run = train(base, root, "out",
                             with(kTokens, {"--max-steps", "1", "--use-peft", "false", "--special-tokens",
                                            "pad_token=<pad>", "--new-token-init", "interpolation"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(tensor(root + "/out/model.safetensors", kEmbeddings).size(), 771u * 32);
  const Json config = Json::parse(read_file(root + "/out/config.json"), "config");
  EXPECT_EQ(config.at("vocab_size").as_int(), 771);
  EXPECT_EQ(config.at("pad_token_id").as_int(), 768);
  EXPECT_HAS(read_file(root + "/out/tokenizer_config.json"), "\"pad_token\": \"<pad>\"");
  EXPECT_TRUE(std::isfinite(nll({"--model", root + "/out", "--dataset", root + "/words.jsonl"})));
}

TEST(NewTokens, EmbeddingsHaveARateOfTheirOwn) {
  const std::string root = scratch_directory(), base = base_model(root, false);
  const Words saves = {"--lora-modules-to-save", "embed_tokens", "--max-steps", "2"};
  const auto start = tensor(base + "/model.safetensors", kEmbeddings);
  ASSERT_EQ(train(base, root, "still", with(saves, {"--embedding-learning-rate", "0"})).exit_code, 0);
  ASSERT_EQ(train(base, root, "moved", saves).exit_code, 0);
  EXPECT_EQ(tensor(root + "/still/adapter_model.safetensors", kSaved), start);
  EXPECT_NE(tensor(root + "/moved/adapter_model.safetensors", kSaved), start);
  const char* matrix = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight";
  const auto b = tensor(root + "/still/adapter_model.safetensors", matrix);
  EXPECT_NE(b, std::vector<float>(b.size(), 0.0f));
  EXPECT_TRUE(tensor(root + "/still/adapter_model.safetensors", "base_model.model.lm_head.weight").empty());
}

TEST(NewTokens, UntrainedRowsAreRepairedWhereTheConfigurationSaysSo) {
  const std::string root = scratch_directory(), base = base_model(root, true);
  // The eos of the demo loses its row.
  {
    const std::string path = base + "/model.safetensors";
    std::map<std::string, std::pair<Shape, std::vector<float>>> all;
    {
      const SafetensorsFile file(path);
      for (const SafetensorsEntry& entry : file.entries())
        all[entry.name] = {shape_of(entry, path), tensor(path, entry.name)};
    }
    std::fill_n(all[kEmbeddings].second.begin(), 32, 0.0f);
    SafetensorsWriter writer(path);
    for (const auto& [name, value] : all)
      writer.add(name, DType::f32, value.first, [&values = value.second](void* target) {
        std::copy(values.begin(), values.end(), static_cast<float*>(target));
      });
    writer.write();
  }
  const Finished told = train(base, root, "told", {"--max-steps", "1"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  EXPECT_HAS(told.err, "fix_untrained_tokens: true makes them the mean");
  const Finished run = train(base, root, "out", {"--max-steps", "1", "--fix-untrained-tokens"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "fix_untrained_tokens: 1 rows of zeros begin as the mean");
  EXPECT_EQ(run.err.find("makes them the mean"), std::string::npos);
  const auto was = tensor(base + "/model.safetensors", kEmbeddings),
             now = tensor(root + "/out/merged/model.safetensors", kEmbeddings);
  for (size_t column = 0; column < 32; ++column) {
    double sum = 0;
    for (size_t row = 1; row < 768; ++row) sum += static_cast<double>(was[row * 32 + column]);
    EXPECT_NEAR(now[column], sum / 767, 1e-7);
  }
  EXPECT_EQ(std::vector<float>(now.begin() + 32, now.end()), std::vector<float>(was.begin() + 32, was.end()));
  EXPECT_EQ(tensor(root + "/out/adapter_model.safetensors", kSaved), now);
}

TEST(NewTokens, TheTokenizerOfAGgufIsShipped) {
  const std::string root = scratch_directory(), base = base_model(root, true);
  const std::string gguf = fixture("text/sources/gguf_llama/vocabulary.gguf");
  const Finished run = train(base, root, "out", {"--tokenizer", gguf, "--max-steps", "1", "--resize-vocab"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::string lines = "Hello  world\n<s>na\xC3\xAFve \xE4\xBD\xA0 12345\n";
  Process::Options input;
  input.input = lines;
  const auto ids = [&](const std::string& tokenizer) {
    const Finished said = run_serval({"tokenize", "--tokenizer", tokenizer}, input);
    EXPECT_EQ(said.exit_code, 0) << said.err;
    return said.out;
  };
  EXPECT_FALSE(ids(gguf).empty());
  EXPECT_EQ(ids(root + "/out/merged"), ids(gguf));
  EXPECT_EQ(ids(root + "/out"), ids(gguf));
}

// A pattern of parameters that train beside the adapter: they are in the adapter too.
TEST(NewTokens, WhatTrainsBesideAnAdapterLiesInIt) {
  const std::string root = scratch_directory(), base = base_model(root, false);
  const Finished run = train(base, root, "out", {"--trainable", "model.norm", "--max-steps", "2"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto norm = tensor(root + "/out/adapter_model.safetensors", "base_model.model.model.norm.weight");
  EXPECT_EQ(norm, tensor(root + "/out/merged/model.safetensors", "model.norm.weight"));
  EXPECT_NE(norm, tensor(base + "/model.safetensors", "model.norm.weight"));
  EXPECT_NEAR(nll({"--model", base, "--adapter", root + "/out", "--dataset", root + "/words.jsonl"}),
              nll({"--model", root + "/out/merged", "--dataset", root + "/words.jsonl"}), 1e-4);
}

TEST(NewTokens, WhatCannotBeIsRefusedFirst) {
  const std::string root = scratch_directory();
  const auto run = [&](const Words& more) { return train(tiny_model(), root, "out", more); };
  EXPECT_FAILS(run({"--eos-token", "<none>"}), 1,
               "\"<none>\" cannot be the eos_token: it is no token; add it first (new_special_tokens)");
  EXPECT_FAILS(run({"--lora-modules-to-save", "embed"}), 1, "no module's name ends with 'embed'");
  EXPECT_FAILS(run({"--embedding-learning-rate", "0.1"}), 2, "embeddings and head do not train");
  EXPECT_FALSE(file_exists(root + "/out/adapter_model.safetensors"));
}

TEST(NewTokens, ThePlanKnowsTheRows) {
  const auto bytes = [](const Words& more) {
    const Finished run =
        run_serval(with({"plan", "--json", "--model", tiny_model(), "--max-length", "64"}, more));
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return Json::parse(run.out, "plan").at("memory_bytes").at("weights").as_int();
  };
  const Finished run = run_serval(
      with({"plan", "--model", tiny_model(), "--max-length", "64", "--fix-untrained-tokens"}, kTokens));
  EXPECT_HAS(run.out,
             "vocabulary: 2 new tokens: \"<|stop|>\", \"<go>\"; embeddings and head grow from 768 to 770 "
             "rows; their rows begin as the mean of the trained ones; rows of zeros begin as the mean too");
  // bf16, and a tied head.
  EXPECT_EQ(bytes(kTokens) - bytes({}), 2 * 32 * 2);
}

}  // namespace
}  // namespace serval::testing
