#include "formats/checkpoint.h"

#include <algorithm>

#include "base/json.h"
#include "formats/formats_test_tools.h"

namespace serval {
namespace {

using testing::fixture;
using testing::safetensors_bytes;
using testing::scratch_directory;
using testing::test_data;
using testing::write_scratch;

constexpr const char* kIndex = "model.safetensors.index.json";

std::vector<BFloat16> read_tensor(const Checkpoint& checkpoint, const std::string& name) {
  const SafetensorsEntry* entry = checkpoint.find(name);
  if (entry == nullptr) return {};
  std::vector<BFloat16> values(static_cast<size_t>(shape_of(*entry, "").elements()));
  checkpoint.read(name, values.data(), DType::bf16);
  return values;
}

bool same_bits(const std::vector<BFloat16>& a, const std::vector<BFloat16>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](BFloat16 x, BFloat16 y) { return x.bits == y.bits; });
}

class TransformersShards : public ::testing::TestWithParam<int64_t> {};

TEST_P(TransformersShards, AreReadAsOneModel) {
  const Checkpoint whole = Checkpoint::open(fixture("formats/whole"));
  const Checkpoint sharded = Checkpoint::open(fixture("formats/sharded_" + std::to_string(GetParam())));
  EXPECT_EQ(sharded.entries().size(), whole.entries().size());
  EXPECT_EQ(sharded.data_bytes(), whole.data_bytes());
  for (const SafetensorsEntry* entry : whole.entries()) {
    EXPECT_EQ(sharded.find(entry->name)->dims, entry->dims);
    EXPECT_TRUE(same_bits(read_tensor(sharded, entry->name), read_tensor(whole, entry->name)));
    EXPECT_NE(sharded.file_of(entry->name).find("-of-"), std::string::npos);
  }
}

TEST_P(TransformersShards, AreCutByTheSameRule) {
  const Checkpoint whole = Checkpoint::open(fixture("formats/whole"));
  const Json order = Json::parse(read_file(fixture("formats/order.json")), "order.json");
  std::vector<CheckpointTensor> tensors;
  for (const Json& item : order.as_array()) {
    const std::string& name = item.as_string();
    tensors.push_back({name, DType::bf16, shape_of(*whole.find(name), ""),
                       [&whole, &name](int64_t row, int64_t rows, void* target) {
                         const int64_t width = shape_of(*whole.find(name), "").row_size();
                         whole.read(name, row * width, rows * width, target, DType::bf16);
                       }});
  }
  const std::string directory = scratch_directory();
  // What an earlier save left must not mislead a reader; other files stay.
  for (const char* name : {"model.safetensors", "model-00001-of-00009.safetensors", "other.safetensors"})
    write_scratch(directory, name, safetensors_bytes("{}"));
  write_checkpoint(directory, std::move(tensors), GetParam());

  const std::string reference = fixture("formats/sharded_" + std::to_string(GetParam()));
  auto names = list_directory(directory);
  EXPECT_EQ(std::erase(names, "other.safetensors"), 1u);
  EXPECT_EQ(names, list_directory(reference));
  for (const std::string& name : names) {
    if (!name.ends_with(".safetensors")) continue;
    EXPECT_EQ(read_file(join_path(directory, name)), read_file(join_path(reference, name))) << name;
  }
  const Json ours = Json::parse(read_file(join_path(directory, kIndex)), kIndex);
  const Json theirs = Json::parse(read_file(join_path(reference, kIndex)), kIndex);
  EXPECT_EQ(ours.at("weight_map"), theirs.at("weight_map"));
  EXPECT_EQ(ours.at("metadata").at("total_size"), theirs.at("metadata").at("total_size"));
}

INSTANTIATE_TEST_SUITE_P(Limits, TransformersShards, ::testing::Values(1500, 4000));

TEST(Checkpoint, OneShardIsAPlainFile) {
  const Checkpoint whole = Checkpoint::open(fixture("formats/whole"));
  std::vector<CheckpointTensor> tensors;
  for (const SafetensorsEntry* entry : whole.entries())
    tensors.push_back({entry->name, DType::bf16, shape_of(*entry, ""),
                       [&whole, entry](int64_t row, int64_t rows, void* target) {
                         const int64_t width = shape_of(*entry, "").row_size();
                         whole.read(entry->name, row * width, rows * width, target, DType::bf16);
                       }});
  const std::string directory = scratch_directory();
  write_scratch(directory, kIndex, "{}");
  write_checkpoint(directory, std::move(tensors));
  EXPECT_EQ(list_directory(directory), std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(read_file(join_path(directory, "model.safetensors")),
            read_file(fixture("formats/whole/model.safetensors")));
}

TEST(Checkpoint, IndexAndShardsMustAgree) {
  const std::string f32 = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  const auto refused = [&](const std::string& index, const char* part) {
    const std::string directory = scratch_directory();
    write_scratch(directory, "one.safetensors", safetensors_bytes("{\"a\":" + f32 + "}", "1"));
    write_scratch(directory, "two.safetensors", safetensors_bytes("{\"b\":" + f32 + "}", "1"));
    write_scratch(directory, kIndex, index);
    EXPECT_REFUSED(Checkpoint::open(directory), part);
  };
  refused(R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})",
          "tensor \"b\" should be in \"one");
  refused(R"({"weight_map":{"a":"one.safetensors","b":"./one.safetensors"}})", "which does not hold it");
  refused(R"({"weight_map":{"a":"three.safetensors"}})",
          "the shard \"three.safetensors\" of tensor \"a\" is missing");
  refused(R"({"weight_map":{"a":"../one.safetensors"}})", "leaves its directory");
  refused(R"({"weight_map":{"a":"/etc/passwd"}})", "leaves its directory");
  refused(R"({"weight_map":{"a":""}})", "leaves its directory");
  refused(R"({"weight_map":{"a":1}})", "is no name");
  refused(R"({"weight_map":[]})", "missing or no object");
  refused(R"({})", "missing or no object");
  refused(R"([])", "missing or no object");
  refused("{", "not valid JSON");
  refused(R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})", "not valid JSON");
  // A shard that holds more than the index says.
  const std::string directory = scratch_directory();
  write_scratch(
      directory, "one.safetensors",
      safetensors_bytes("{\"a\":" + f32 + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "12"));
  write_scratch(directory, kIndex, R"({"weight_map":{"a":"one.safetensors"}})");
  EXPECT_REFUSED(Checkpoint::open(directory), "holds the tensor \"b\", which the index does not place there");
  write_scratch(directory, kIndex, R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})");
  EXPECT_EQ(Checkpoint::open(directory).entries().size(), 2u);
}

TEST(Checkpoint, WhatIsNoModelIsRefusedWithAdvice) {
  const std::string directory = scratch_directory();
  EXPECT_REFUSED(Checkpoint::open(directory), "expected the directory of a Hugging Face model");
  EXPECT_REFUSED(Checkpoint::open(directory + "/absent"), "no such directory");
  write_scratch(directory, "adapter_config.json", "{}");
  EXPECT_REFUSED(Checkpoint::open(directory), "is a PEFT adapter");
  const std::string pickle = write_scratch(directory, "pytorch_model.bin", "PK");
  EXPECT_REFUSED(Checkpoint::open(directory), "safe_serialization=True");
  EXPECT_REFUSED(Checkpoint::open(pickle), "safe_serialization=True");
  // Known by its first bytes, whatever its name is.
  const std::string gguf = write_scratch(directory, "weights", std::string("GGUF\xff\xff\xff\xff", 8));
  EXPECT_REFUSED(Checkpoint::open(directory), "a GGUF cannot be read yet");
  EXPECT_REFUSED(Checkpoint::open(gguf), "a GGUF cannot be read yet");
  const std::string other = write_scratch(directory, "weights.txt", "GGU");
  EXPECT_FALSE(is_gguf(other));
  EXPECT_REFUSED(Checkpoint::open(other), "is a file");
}

TEST(Checkpoint, EveryMalformedGgufEndsInOneError) {
  SERVAL_NEEDS_DATA("malformed/gguf");
  int files = 0, by_magic = 0;
  for (const std::string& name : list_directory(test_data("malformed/gguf"))) {
    const std::string path = join_path(test_data("malformed/gguf"), name);
    if (!file_exists(path)) continue;
    ++files;
    by_magic += is_gguf(path) ? 1 : 0;
    EXPECT_REFUSED(Checkpoint::open(path), is_gguf(path) ? "a GGUF cannot be read yet" : "is a file");
    EXPECT_REFUSED(SafetensorsFile file(path), path);
  }
  EXPECT_GT(files, 50);
  EXPECT_GT(by_magic, files / 2);
}

TEST(Checkpoint, ARealModel) {
  SERVAL_NEEDS_DATA("models/stories260K/hf");
  const Checkpoint checkpoint = Checkpoint::open(test_data("models/stories260K/hf"));
  EXPECT_EQ(checkpoint.find("model.embed_tokens.weight")->dims, (std::vector<int64_t>{512, 64}));
  EXPECT_EQ(checkpoint.find("lm_head.weight"), nullptr);
  const SafetensorsEntry* norm = checkpoint.find("model.norm.weight");
  std::vector<float> values(64);
  checkpoint.read(norm->name, values.data(), DType::f32);
  for (const float value : values) EXPECT_TRUE(value > 0.01f && value < 100.0f) << value;
}

TEST(CopyModelFiles, TokenizerFilesByteForByteAndNothingElse) {
  const std::string directory = scratch_directory(), from = directory + "/from", to = directory + "/to";
  make_directories(from);
  make_directories(to);
  const std::vector<std::string> wanted = {
      "added_tokens.json", "chat_template.jinja",     "generation_config.json",
      "merges.txt",        "special_tokens_map.json", "tokenizer.json",
      "tokenizer.model",   "tokenizer_config.json",   "vocab.json"};
  for (const std::string& name : wanted) write_scratch(from, name, name + std::string("\r\n\0\xff {", 6));
  for (const char* name :
       {"config.json", "model.safetensors", "README.md", "tokenizer.py", "pytorch_model.bin"})
    write_scratch(from, name, "x");
  copy_model_files(from, to);
  EXPECT_EQ(list_directory(to), wanted);
  for (const std::string& name : wanted)
    EXPECT_EQ(read_file(join_path(to, name)), read_file(join_path(from, name)));
}

TEST(CopyModelFiles, OfOneFileTheSettingsBesideItAndNoOtherVocabulary) {
  const std::string directory = scratch_directory(), from = directory + "/from";
  make_directories(from);
  for (const char* name : {"tokenizer.json", "mine.json", "tokenizer.model", "vocab.json", "merges.txt",
                           "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"})
    write_scratch(from, name, name);
  write_scratch(from, "model.gguf", "GGUF\x03");
  const auto copied = [&](const std::string& file) {
    const std::string to = directory + "/" + file;
    make_directories(to);
    copy_model_files(from + "/" + file, to);
    return list_directory(to);
  };
  using Names = std::vector<std::string>;
  const Names settings = {"chat_template.jinja", "special_tokens_map.json", "tokenizer_config.json"};
  const auto with = [&](const Names& more) {
    Names all = settings;
    all.insert(all.end(), more.begin(), more.end());
    std::sort(all.begin(), all.end());
    return all;
  };
  EXPECT_EQ(copied("tokenizer.model"), with({"tokenizer.model"}));
  EXPECT_EQ(copied("mine.json"), with({"tokenizer.json"}));
  EXPECT_EQ(read_file(directory + "/mine.json/tokenizer.json"), "mine.json");
  EXPECT_EQ(copied("merges.txt"), with({"merges.txt", "vocab.json"}));
  EXPECT_EQ(copied("model.gguf"), settings);
}

}  // namespace
}  // namespace serval
