#include "formats/peft.h"

#include <algorithm>

#include "formats/formats_test_tools.h"

namespace serval {
namespace {

using testing::fixture;
using testing::scratch_directory;
using testing::test_data;

Json cases() {
  const std::string path = fixture("formats/adapter_cases.json");
  return Json::parse(read_file(path), path);
}

// Which linear layers the configuration adapts, compared with what PEFT adapted.
void expect_adapted(const AdapterConfig& config, const Json& test) {
  const Json& expected = test.at("adapted");
  size_t adapted = 0;
  for (const Json& linear : test.at("linears").as_array()) {
    const std::string& module = linear.as_string();
    const Json* theirs = expected.find(module);
    const bool all_linear = config.target_modules[0] == "all-linear";
    if (all_linear && module == "lm_head") continue;  // the caller never offers the head for "all-linear"
    const auto ours = config.match(module);
    ASSERT_EQ(ours.has_value(), theirs != nullptr) << module << " " << test.at("config").dump();
    if (!ours) continue;
    ++adapted;
    EXPECT_EQ(ours->rank, theirs->as_array()[0].as_int()) << module;
    EXPECT_EQ(ours->alpha, theirs->as_array()[1].as_double()) << module;
    EXPECT_DOUBLE_EQ(ours->scale, theirs->as_array()[2].as_double()) << module;
  }
  EXPECT_EQ(adapted, expected.size());
}

TEST(AdapterConfig, AdaptsTheModulesThatPeftAdapts) {
  const Json all = cases();
  EXPECT_GT(all.at("cases").size(), 30u);
  for (const Json& test : all.at("cases").as_array()) {
    SCOPED_TRACE(test.at("config").dump());
    const AdapterConfig config = AdapterConfig::from_json(test.at("config"), "adapter_config.json");
    EXPECT_TRUE(config.ignored.empty());
    expect_adapted(config, test);
    // And after a round trip through our own file.
    const std::string text = config.to_json().dump(2);
    expect_adapted(AdapterConfig::from_json(Json::parse(text, "ours"), "ours"), test);
  }
}

TEST(AdapterConfig, WhatPeftRefusesIsRefused) {
  const Json all = cases();
  EXPECT_EQ(all.at("refused").size(), 6u);
  for (const Json& config : all.at("refused").as_array())
    EXPECT_REFUSED(AdapterConfig::from_json(config, "the-file"), "the-file");
}

TEST(AdapterConfig, UnsupportedFeaturesAreRefusedByName) {
  const auto refused = [](const char* key, const char* value) {
    const std::string text =
        std::string(R"({"peft_type":"LORA","target_modules":["q_proj"],")") + key + "\":" + value + "}";
    EXPECT_REFUSED(AdapterConfig::from_json(Json::parse(text, "f"), "f"), key);
  };
  refused("use_dora", "true");
  refused("lora_bias", "true");
  refused("alora_invocation_tokens", "[1,2]");
  refused("layer_replication", "[[0,4],[2,5]]");
  refused("target_parameters", R"(["experts.gate_up_proj"])");
  refused("trainable_token_indices", R"({"lm_head":[5]})");
  refused("trainable_token_indices", R"({"embed_tokens":[5],"lm_head":[5]})");
  refused("fan_in_fan_out", "true");
  refused("use_qalora", "true");
  refused("use_bdlora", R"({"a":1})");
  refused("megatron_config", R"({"a":1})");
  refused("arrow_config", R"({"a":1})");
  refused("bias", "\"all\"");
  refused("bias", "\"lora_only\"");
  refused("bias", "3");
  refused("init_lora_weights", "\"pissa\"");
  refused("init_lora_weights", "\"olora\"");
  refused("init_lora_weights", "\"loftq\"");
  // Wrong types and values name the key too.
  refused("r", "\"8\"");
  refused("r", "-1");
  refused("r", "9223372036854775807");
  refused("lora_alpha", "\"x\"");
  refused("lora_dropout", "1.0");
  refused("use_rslora", "1");
  refused("rank_pattern", "[1]");
  refused("rank_pattern", R"({"q_proj":1.5})");
  refused("rank_pattern", R"({"(q":1})");
  refused("alpha_pattern", R"({"q_proj":"1"})");
  refused("exclude_modules", "\"[a-\"");
  refused("layers_to_transform", "[\"1\"]");
  refused("target_modules", "[1]");
  refused("target_modules", "[]");
  refused("target_modules", "null");
  EXPECT_REFUSED(AdapterConfig::from_json(Json::parse(R"({"target_modules":["a"]})", "f"), "f"), "peft_type");
  EXPECT_REFUSED(AdapterConfig::from_json(Json::parse(R"({"peft_type":"IA3"})", "f"), "f"), "only LORA");
  EXPECT_REFUSED(AdapterConfig::from_json(Json::parse("[]", "f"), "f"), "expected an object");
  EXPECT_REFUSED(AdapterConfig::read(scratch_directory()), "adapter_config.json: missing");
}

TEST(AdapterConfig, UnknownKeysAreListedAndOffValuesAreNot) {
  const Json json = Json::parse(
      R"({"peft_type":"LORA","target_modules":["q"],"a_new_switch":true,"an_off_switch":false,"nothing":null,
          "use_dora":false,"modules_to_save":null,"init_lora_weights":"gaussian"})",
      "f");
  EXPECT_EQ(AdapterConfig::from_json(json, "f").ignored, std::vector<std::string>{"a_new_switch"});
}

TEST(AdapterConfig, WritesTheStableKeysSortedAndAlphaAsAnInteger) {
  AdapterConfig config;
  config.base_model = "org/base";
  config.alpha = 16.0;
  config.target_modules = {"v_proj", "q_proj"};
  config.rank_pattern = {{"z", 2.0}, {"a", 3.0}};
  const std::string text = config.to_json().dump(2);
  EXPECT_NE(text.find("\"lora_alpha\": 16,"), std::string::npos) << text;
  EXPECT_NE(text.find("\"lora_dropout\": 0.0,"), std::string::npos);
  EXPECT_NE(text.find("\"inference_mode\": true"), std::string::npos);
  const Json json = config.to_json();
  EXPECT_TRUE(std::is_sorted(json.as_object().begin(), json.as_object().end(),
                             [](const auto& a, const auto& b) { return a.first < b.first; }));
  // The first pattern that matches counts, so their order is kept.
  EXPECT_EQ(json.at("rank_pattern").as_object()[0].first, "z");
  config.alpha = 2.5;
  EXPECT_NE(config.to_json().dump(2).find("\"lora_alpha\": 2.5,"), std::string::npos);
}

struct NamedShape {
  std::string name;
  Shape shape;
  DType dtype = DType::f32;
};

std::string adapter_directory(const std::vector<NamedShape>& tensors) {
  const std::string directory = scratch_directory();
  SafetensorsWriter writer(join_path(directory, "adapter_model.safetensors"));
  for (const auto& t : tensors)
    writer.add(t.name, t.dtype, t.shape, [&t](void* target) {
      std::fill_n(static_cast<char*>(target), t.shape.elements() * size_of(t.dtype), '\1');
    });
  writer.write();
  return directory;
}

TEST(AdapterFile, PairsByModuleWithAndWithoutTheAdaptersName) {
  const std::string p = "base_model.model.";
  const AdapterFile file(adapter_directory({{p + "m.q.lora_A.weight", {4, 8}},
                                            {p + "m.q.lora_B.weight", {6, 4}},
                                            {p + "m.v.lora_A.default.weight", {2, 8}},
                                            {p + "m.v.lora_B.default.weight", {6, 2}}}));
  std::vector<std::string> names;
  for (const auto& [name, entry] : file.tensors()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"m.q.lora_A.weight", "m.q.lora_B.weight", "m.v.lora_A.weight",
                                             "m.v.lora_B.weight"}));
  EXPECT_EQ(file.tensors().at("m.v.lora_A.weight")->dims, (std::vector<int64_t>{2, 8}));
  EXPECT_EQ(peft_name("m.q.lora_A.weight"), p + "m.q.lora_A.weight");
}

TEST(AdapterFile, WrongTensorsAreRefused) {
  const std::string a = "base_model.model.m.q.lora_A.weight", b = "base_model.model.m.q.lora_B.weight";
  EXPECT_REFUSED(AdapterFile(adapter_directory({})), "no tensors");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{a, {4, 8}}})), "\"m.q\" has no lora_B");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{b, {8, 4}}})), "\"m.q\" has no lora_A");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{a, {4, 8}}, {b, {6, 3}}})), "rank 4 in lora_A but 3");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{a, {32}}, {b, {6, 3}}})), "1 dimensions, expected 2");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{a, {4, 8}}, {b, {6, 4, 1}}})), "3 dimensions, expected 2");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{a, {4, 8}, DType::u8}, {b, {6, 4}}})), "floating-point");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{"m.q.lora_A.weight", {4, 8}}})), "does not begin");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{"base_model.model.m.lora_embedding_A", {4, 8}}})),
                 "neither");
  EXPECT_REFUSED(AdapterFile(adapter_directory(
                     {{"base_model.model.model.layers.0.q.token_adapter.trainable_tokens_delta", {2, 8}}})),
                 "neither");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{"base_model.model.lm_head.weight", {4, 8}, DType::u8}})),
                 "floating-point");
  EXPECT_REFUSED(AdapterFile(adapter_directory({{"base_model.model.m.lora_A.x.weight", {4, 8}},
                                                {"base_model.model.m.lora_A.y.weight", {4, 8}}})),
                 "appears twice");
  EXPECT_REFUSED(AdapterFile{scratch_directory()}, "adapter_model.safetensors: cannot open");
}

TEST(AdapterFile, ModulesThatAreSavedWhole) {
  const AdapterFile file(adapter_directory({{"base_model.model.m.q.lora_A.weight", {4, 8}},
                                            {"base_model.model.m.q.lora_B.weight", {6, 4}},
                                            {"base_model.model.lm_head.weight", {4, 8}},
                                            {"base_model.model.model.norm.weight", {8}}}));
  EXPECT_EQ(file.tensors().size(), 2u);
  ASSERT_EQ(file.saved().size(), 2u);
  EXPECT_EQ(file.saved().at("lm_head.weight")->dims[0], 4u);
  EXPECT_TRUE(file.saved().contains("model.norm.weight"));

  const AdapterConfig config =
      AdapterConfig::from_json(Json::parse(R"({"peft_type": "LORA", "target_modules": ["q_proj", "lm_head"],
                      "modules_to_save": ["lm_head", "embed_tokens"]})",
                                           "config"),
                               "config");
  EXPECT_TRUE(config.ignored.empty());
  EXPECT_TRUE(config.saves("lm_head"));
  EXPECT_TRUE(config.saves("model.embed_tokens"));
  EXPECT_FALSE(config.saves("model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(config.match("model.layers.0.self_attn.q_proj"));
  EXPECT_FALSE(config.match("lm_head"));  // saving beats adapting
  const AdapterConfig again = AdapterConfig::from_json(config.to_json(), "ours");
  EXPECT_EQ(again.modules_to_save, config.modules_to_save);
  EXPECT_TRUE(AdapterConfig().to_json().at("modules_to_save").is_null());
}

// Every module of the file is one that its configuration matches, with that rank.
void expect_consistent(const std::string& directory) {
  SCOPED_TRACE(directory);
  const AdapterConfig config = AdapterConfig::read(directory);
  const AdapterFile file(directory);
  EXPECT_TRUE(config.ignored.empty());
  for (const auto& [name, entry] : file.tensors()) {
    const auto shape = config.match(name.substr(0, name.size() - std::string(".lora_A.weight").size()));
    ASSERT_TRUE(shape) << name;
    EXPECT_EQ(shape->rank, name.ends_with(".lora_A.weight") ? entry->dims[0] : entry->dims[1]);
    EXPECT_NE(file.file().find(peft_name(name)), nullptr);
  }
}

TEST(AdapterFile, AdaptersThatPeftSaved) {
  const auto names = list_directory(fixture("models/lora"));
  EXPECT_GT(names.size(), 10u);
  for (const std::string& name : names) expect_consistent(fixture("models/lora/" + name));
}

TEST(AdapterFile, RealAdapters) {
  SERVAL_NEEDS_DATA("adapters");
  const std::string qwen = test_data("adapters/qwen2.5-0.5b-instruct-r8");
  const std::string gemma = test_data("adapters/gemma3-270m-it-r4");
  expect_consistent(qwen);
  expect_consistent(gemma);
  EXPECT_EQ(AdapterFile(qwen).tensors().size(), 2u * 24 * 2);
  EXPECT_EQ(AdapterFile(gemma).tensors().size(), 2u * 18 * 4);
  EXPECT_EQ(AdapterConfig::read(qwen).match("model.layers.3.self_attn.q_proj")->scale, 2.0);
  EXPECT_EQ(AdapterConfig::read(gemma).match("model.layers.3.self_attn.o_proj")->scale, 4.0);
}

}  // namespace
}  // namespace serval
