// Rung 2 of the ladder: logits, loss and every gradient of each family against transformers (float64). f32
// within 1e-5; bf16 logits within twice the distance of transformers' own bf16 logits, which each fixture
// records.
#include <gtest/gtest.h>

#include "models/decoder_config.h"
#include "support/devices.h"
#include "support/fixture_tensors.h"
#include "support/model_logits.h"
#include "support/test_data.h"
#include "train/session.h"

namespace serval {
namespace {

using testing::FixtureSource;
using testing::read_tensors;
using testing::relative_error;

MicroBatch batch_of(const Json& expected) {
  const auto list = [&](const char* key) {
    std::vector<int32_t> values;
    for (const Json& item : expected.at(key).as_array())
      values.push_back(static_cast<int32_t>(item.as_int()));
    return values;
  };
  MicroBatch batch;
  batch.input_ids = list("input_ids");
  batch.position_ids = list("position_ids");
  batch.cu_seqlens = list("cu_seqlens");
  batch.label_rows = list("label_rows");
  batch.labels = list("label_ids");
  return batch;
}

class ModelFixture : public ::testing::TestWithParam<const char*> {};

SessionOptions options_of(const Json& config, const MicroBatch& batch, DType compute, Recompute recompute) {
  SessionOptions options;
  options.model = read_decoder_config(config, "config.json");
  options.network.compute = compute;
  options.network.trained = [](const std::string&) { return true; };
  // Capacities beyond the batch: nothing may depend on them.
  options.train_capacity = {batch.num_tokens() + 7, batch.num_documents() + 2, batch.num_labels() + 5};
  options.memory.recompute = recompute;
  return options;
}

// f64 is for the CPU alone.
std::vector<std::pair<std::shared_ptr<Device>, DType>> devices_and_types(const std::vector<DType>& types) {
  std::vector<std::pair<std::shared_ptr<Device>, DType>> all;
  for (const auto& device : testing::devices())
    for (const DType dtype : types)
      if (dtype != DType::f64 || device->kind() == DeviceKind::cpu) all.emplace_back(device, dtype);
  return all;
}

TEST_P(ModelFixture, LossAndEveryGradient) {
  const std::string directory = testing::fixture(std::string("models/") + GetParam());
  const Json config = Json::parse(read_file(directory + "/config.json"), "config.json");
  const Json expected = Json::parse(read_file(directory + "/expected.json"), "expected.json");
  const auto tensors = read_tensors(directory + "/expected.safetensors");
  const MicroBatch batch = batch_of(expected);
  for (const auto& [device, compute] : devices_and_types({DType::f64, DType::f32})) {
    SessionOptions options = options_of(config, batch, compute, Recompute::cheap);
    options.device = device->kind();
    Session session(plan_session(options), *device);
    load_parameters(session.parameters(), Role::weight, FixtureSource(directory + "/model.safetensors"),
                    session.states());
    const StepResult result = session.accumulate({.micro_batches = {batch}}, {.step = 1});
    // f64: what is left is the rounding of the expected values to f32.
    const double tolerance = compute == DType::f64 ? 1e-6 : 1e-5;
    EXPECT_NEAR(result.loss, expected.at("loss").as_double(), tolerance * expected.at("loss").as_double());
    for (const Parameter& parameter : session.parameters().all()) {
      const int64_t width = parameter.shape.row_size();
      std::vector<double> gradient(static_cast<size_t>(parameter.shape.elements()));
      const auto& state = session.states().state(gradient_state(parameter));
      session.states().with_values(state.name, 0, state.shape.elements(), [&](const void* values) {
        convert_elements(values, state.dtype, gradient.data(), DType::f64, state.shape.elements());
      });
      for (const ParameterSlice& slice : parameter.slices) {
        const auto begin = gradient.begin() + slice.row_begin * width;
        const std::vector<double> own(begin, begin + slice.shape.elements());
        EXPECT_LE(relative_error(own, tensors.at("grad." + slice.name).values), tolerance)
            << slice.name << " " << name_of(compute) << " on " << device->name();
      }
    }
  }
}

testing::Documents documents_of(const MicroBatch& batch) {
  testing::Documents documents;
  for (size_t i = 0; i + 1 < batch.cu_seqlens.size(); ++i)
    documents.emplace_back(batch.input_ids.begin() + batch.cu_seqlens[i],
                           batch.input_ids.begin() + batch.cu_seqlens[i + 1]);
  return documents;
}

TEST_P(ModelFixture, LogitsOfTrainingAndOfGeneration) {
  const std::string directory = testing::fixture(std::string("models/") + GetParam());
  const Json expected = Json::parse(read_file(directory + "/expected.json"), "expected.json");
  const auto tensors = read_tensors(directory + "/expected.safetensors");
  const auto documents = documents_of(batch_of(expected));
  const Pretrained model = Pretrained::open({.model = directory});
  const auto load = testing::weights_of(model);
  for (const auto& [device, compute] : devices_and_types({DType::f64, DType::f32, DType::bf16})) {
    NetworkOptions options = model.network_options();
    options.compute = compute;
    const double tolerance =
        compute == DType::f64 ? 1e-6
        : compute == DType::f32
            ? 1e-5
            : 2 * expected.at("transformers_bf16").at("logits_relative_error").as_double();
    const auto& wanted = tensors.at("logits").values;
    const auto forward = testing::forward_logits(model.config(), options, documents, load, *device);
    EXPECT_LE(relative_error(forward, wanted), tolerance) << name_of(compute) << " on " << device->name();
    const auto cached = testing::cached_logits(model.config(), options, documents, load, *device);
    EXPECT_LE(relative_error(cached, wanted), tolerance) << name_of(compute) << ", with a KV cache";
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ModelFixture,
                         ::testing::Values("llama_a", "llama_b", "llama_tied", "llama_rope_llama3_v4",
                                           "llama_rope_llama3_v5", "llama_rope_linear", "llama_biases",
                                           "mistral_a", "mistral_b", "qwen2_a", "qwen2_b", "qwen2_window",
                                           "qwen3_a", "qwen3_b"));

}  // namespace
}  // namespace serval
