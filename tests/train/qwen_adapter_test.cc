// A real published adapter (Qwen2.5-0.5B-Instruct, r 8) on a base of that shape whose weights a formula
// makes: logits and what the adapter changes in them, against PEFT in float64. Needs 1.5 GB of memory.
#include <gtest/gtest.h>

#include "support/fixture_tensors.h"
#include "support/model_logits.h"
#include "support/test_data.h"

namespace serval {
namespace {

// The `algorithm` of expected.json.
class FormulaSource final : public TensorSource {
 public:
  explicit FormulaSource(const ParameterTable& table) {
    for (const Parameter& parameter : table.all())
      for (const ParameterSlice& slice : parameter.slices) shapes_[slice.name] = slice.shape;
  }
  std::optional<Shape> shape(const std::string& name) const override {
    const auto it = shapes_.find(name);
    return it == shapes_.end() ? std::nullopt : std::optional(it->second);
  }
  void read(const std::string& name, void* target, DType dtype) const override {
    const std::vector<float> values = fill(name, shapes_.at(name).elements());
    convert_elements(values.data(), DType::f32, target, dtype, shapes_.at(name).elements());
  }
  std::string where() const override { return "formula"; }

  static std::vector<float> fill(const std::string& name, int64_t count) {
    uint32_t seed = 2166136261U;
    for (const char c : name) seed = (seed ^ static_cast<uint8_t>(c)) * 16777619U;
    const bool norm = name.ends_with("norm.weight");
    const float divisor = name.ends_with(".bias")                 ? 512.0F
                          : name.ends_with("down_proj.weight")    ? 4096.0F
                          : name.ends_with("embed_tokens.weight") ? 256.0F
                                                                  : 2048.0F;
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) {
      uint32_t x = seed + static_cast<uint32_t>(i) * 2654435769U;
      x ^= x >> 16;
      x *= 2246822507U;
      x ^= x >> 13;
      x *= 3266489909U;
      x ^= x >> 16;
      values[i] = norm ? 1 + static_cast<float>(static_cast<int32_t>(x >> 27) - 16) / 128
                       : static_cast<float>(static_cast<int32_t>(x >> 24) - 128) / divisor;
    }
    return values;
  }

 private:
  std::map<std::string, Shape> shapes_;
};

class AdapterFileSource final : public TensorSource {
 public:
  explicit AdapterFileSource(const std::string& directory) : file_(directory) {}
  std::optional<Shape> shape(const std::string& name) const override {
    const auto it = file_.tensors().find(name);
    if (it == file_.tensors().end()) return std::nullopt;
    return shape_of(*it->second, where());
  }
  void read(const std::string& name, void* target, DType dtype) const override {
    file_.file().read(*file_.tensors().at(name), target, dtype);
  }
  std::string where() const override { return file_.file().path(); }
  size_t tensors() const { return file_.tensors().size(); }

 private:
  AdapterFile file_;
};

std::vector<double> numbers(const Json& list) {
  std::vector<double> values;
  for (const Json& item : list.as_array()) values.push_back(item.as_double());
  return values;
}

class QwenAdapter : public ::testing::Test {
 protected:
  QwenAdapter()
      : expected_(
            Json::parse(read_file(testing::fixture("models/qwen_adapter/expected.json")), "expected.json")),
        config_(read_decoder_config(
            Json::parse(read_file(testing::fixture("models/qwen_adapter/config.json")), "config.json"),
            "config.json")) {
    for (const Json& id : expected_.at("input_ids").as_array())
      ids_.push_back(static_cast<int32_t>(id.as_int()));
  }

  // Of the last token.
  std::vector<double> logits(const std::string& adapter, DType compute) const {
    NetworkOptions options;
    options.compute = compute;
    options.train_adapters = false;
    if (!adapter.empty()) options.adapter = adapter_matcher(AdapterConfig::read(adapter));
    const auto load = [&](const ParameterTable& table, StateStore& states) {
      load_parameters(table, Role::weight, FormulaSource(table), states);
      if (adapter.empty()) return;
      const AdapterFileSource source(adapter);
      load_parameters(table, Role::adapter, source, states);
      size_t used = 0;
      for (const Parameter& parameter : table.all())
        if (parameter.role == Role::adapter) used += parameter.slices.size();
      EXPECT_EQ(used, source.tensors());
    };
    const auto device = make_cpu_device();
    const auto rows = testing::forward_logits(config_, options, {ids_}, load, *device);
    return {rows.end() - config_.vocab_size, rows.end()};
  }

  // Base, adapted and their difference, each against float64.
  void compare(DType compute, double tolerance, double difference_tolerance) const {
    const auto want_base = numbers(expected_.at("base_logits"));
    const auto want_adapted = numbers(expected_.at("adapter_logits"));
    const auto base = logits("", compute);
    const auto adapted =
        logits(testing::test_data(std::string(expected_.at("adapter").as_string())), compute);
    std::vector<double> change, want_change;
    for (size_t i = 0; i < base.size(); ++i) {
      change.push_back(adapted[i] - base[i]);
      want_change.push_back(want_adapted[i] - want_base[i]);
    }
    const double base_error = testing::relative_error(base, want_base);
    const double adapted_error = testing::relative_error(adapted, want_adapted);
    const double change_error = testing::relative_error(change, want_change);
    RecordProperty("base_error", fmt::format("{:.2e}", base_error));
    RecordProperty("adapted_error", fmt::format("{:.2e}", adapted_error));
    RecordProperty("change_error", fmt::format("{:.2e}", change_error));
    EXPECT_LE(base_error, tolerance);
    EXPECT_LE(adapted_error, tolerance);
    EXPECT_LE(change_error, difference_tolerance);
  }

  Json expected_;
  DecoderConfig config_;
  std::vector<int32_t> ids_;
};

TEST_F(QwenAdapter, TheFormulaGivesTheWeightsOfTheFixture) {
  for (const auto& [name, check] : expected_.at("weights_check").as_object()) {
    const auto first = numbers(check.at("first"));
    const auto values = FormulaSource::fill(name, static_cast<int64_t>(first.size()));
    for (size_t i = 0; i < first.size(); ++i)
      EXPECT_EQ(static_cast<double>(values[i]), first[i]) << name << " " << i;
  }
}

// The adapter changes the logits by 6e-3, so its own part is known 160 times less exactly than the logits.
TEST_F(QwenAdapter, Float32LogitsAreThoseOfPeft) {
  SERVAL_NEEDS_DATA("adapters/qwen2.5-0.5b-instruct-r8");
  compare(DType::f32, 1e-5, 1e-3);
}

}  // namespace
}  // namespace serval
