// CPU = GPU: loss and every gradient of an adapter and of all weights, in bf16. Rounding differs in order
// alone, so the GPU may be about as far from an f32 run as the CPU is.
#include "support/devices.h"

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "base/philox.h"
#include "models/decoder_config.h"
#include "nn/weights.h"
#include "support/fixture_tensors.h"
#include "train/session.h"

namespace serval {
namespace {

struct DeviceCase {
  const char* name;
  std::vector<int64_t> ranks;  // of the modules in turn; empty: all weights are trained
  double dropout = 0;
  int64_t room = 1;  // the capacity, in batches
};

// How the same numbers are computed.
struct Way {
  MemoryOptions memory;
  int64_t layers = 2;
  bool deterministic = false;
  std::vector<int32_t> lengths = {150, 1, 212, 37};
};

DecoderConfig small_config(int64_t layers) {
  Json json =
      Json::parse(R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 128,
        "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 32, "vocab_size": 264, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
        "max_position_embeddings": 1024, "tie_word_embeddings": false, "attention_bias": false})",
                  "config");
  json.set("num_hidden_layers", Json(layers));
  return read_decoder_config(json, "config");
}

MicroBatch batch_of(std::vector<int32_t> lengths) {
  MicroBatch batch;
  batch.cu_seqlens = {0};
  const PhiloxKey key = philox_key(7, "tokens", 0, 0);
  for (const int32_t length : lengths) {
    for (int32_t i = 0; i < length; ++i) {
      const auto at = static_cast<uint64_t>(batch.input_ids.size());
      batch.input_ids.push_back(static_cast<int32_t>(philox_u32(key, at) % 264));
      batch.position_ids.push_back(i);
      if (i + 1 < length && i % 3 != 0) {
        batch.label_rows.push_back(static_cast<int32_t>(at));
        batch.labels.push_back(static_cast<int32_t>(philox_u32(key, at + 100000) % 264));
      }
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(batch.input_ids.size()));
  }
  return batch;
}

struct Gradients {
  double loss = 0;
  std::map<std::string, std::vector<double>> values;
};

Gradients gradients_of(const DeviceCase& k, const std::shared_ptr<Device>& device, DType compute,
                       const Way& way = {}) {
  const MicroBatch batch = batch_of(way.lengths);
  SessionOptions options;
  options.device = device->kind();
  options.model = small_config(way.layers);
  options.memory = way.memory;
  options.network.deterministic = way.deterministic;
  options.network.compute = compute;
  int64_t turn = 0;
  std::map<std::string, ModuleAdapter> adapters;
  options.network.adapter = [&](const std::string& module) -> std::optional<ModuleAdapter> {
    if (k.ranks.empty()) return std::nullopt;
    const auto known = adapters.find(module);
    if (known != adapters.end()) return known->second;
    const int64_t rank = k.ranks[static_cast<size_t>(turn++) % k.ranks.size()];
    return adapters[module] = {.rank = rank,
                               .scale = k.ranks.size() > 1 ? 8.0 / static_cast<double>(rank) : 0.5,
                               .dropout = k.dropout};
  };
  if (k.ranks.empty()) options.network.trained = [](const std::string&) { return true; };
  // Room for more than the batch: nothing may depend on it.
  options.train_capacity = {batch.num_tokens() * k.room + 29, batch.num_documents() + 3,
                            batch.num_labels() * k.room + 11};
  Session session(plan_session(options), *device);
  initialize_parameters(session.parameters(), Role::weight, 0.08, 1, session.states());
  // B too, else A had no gradient: as if all slices began as A does.
  ParameterTable table;
  for (Parameter parameter : session.parameters().all()) {
    if (parameter.role != Role::adapter) continue;
    for (ParameterSlice& slice : parameter.slices) slice.init = Init::lora_a;
    table.add(parameter);
  }
  initialize_parameters(table, Role::adapter, 0, 2, session.states());
  const StepSettings settings{.step = 1, .seed = 5};
  session.prepare({.micro_batches = {batch}}, settings, {.measure_products = !way.deterministic});
  if (k.room > 1 && device->kind() == DeviceKind::cuda) {
    EXPECT_EQ(session.program_sizes().size(), 2u);
  }
  Gradients result;
  result.loss = session.accumulate({.micro_batches = {batch}}, settings).loss;
  for (const Parameter& parameter : session.parameters().all()) {
    if (!parameter.trained()) continue;
    std::vector<float> values(static_cast<size_t>(parameter.shape.elements()));
    session.states().read(gradient_state(parameter), values.data());
    result.values[parameter.state].assign(values.begin(), values.end());
  }
  return result;
}

// Layer inputs in host memory and single tensors computed again change no bit on any device, although the
// copies run beside the kernels there.
TEST(Devices, MemoryOptionsChangeNoBit) {
  const DeviceCase cases[] = {
      {"r16", {16}}, {"dropout", {16}, 0.25}, {"all_weights", {}}, {"room", {16}, 0, 3}};
  RecomputeChoice some{.calls = {"model.layers.1.mlp.gate_proj+up_proj", "model.layers.3.self_attn.o_proj",
                                 "model.layers.0.self_attn.attention"}};
  set_num_threads(1);
  const std::vector<int32_t> lengths = {50, 1, 37};
  const MemoryOptions ways[] = {{.recompute = Recompute::blocks},
                                {.recompute = Recompute::blocks, .offload_inputs = true},
                                {.recompute = Recompute::fitted, .choice = some},
                                {.recompute = Recompute::fitted, .choice = some, .offload_inputs = true},
                                {.recompute = Recompute::cheap, .offload_inputs = true}};
  for (const auto& device : testing::devices()) {
    for (const DeviceCase& k : cases) {
      const Gradients plain =
          gradients_of(k, device, DType::bf16, {.layers = 5, .deterministic = true, .lengths = lengths});
      for (size_t i = 0; i < std::size(ways); ++i) {
        const Gradients got =
            gradients_of(k, device, DType::bf16,
                         {.memory = ways[i], .layers = 5, .deterministic = true, .lengths = lengths});
        EXPECT_EQ(got.loss, plain.loss) << device->name() << ' ' << k.name << ' ' << i;
        EXPECT_EQ(got.values, plain.values) << device->name() << ' ' << k.name << ' ' << i;
      }
    }
  }
}

class DevicesAgree : public ::testing::TestWithParam<DeviceCase> {};

TEST_P(DevicesAgree, LossAndGradients) {
  const Gradients exact = gradients_of(GetParam(), testing::device_of(DeviceKind::cpu), DType::f32);
  const Gradients cpu = gradients_of(GetParam(), testing::device_of(DeviceKind::cpu), DType::bf16);
  EXPECT_NEAR(cpu.loss, exact.loss, 1e-2 * exact.loss);
  const auto device = testing::device_of(DeviceKind::cuda);
  if (device == nullptr) GTEST_SKIP() << "no GPU";
  const Gradients narrow = gradients_of(GetParam(), device, DType::bf16),
                  wide = gradients_of(GetParam(), device, DType::f32);
  EXPECT_NEAR(narrow.loss, exact.loss, 1e-2 * exact.loss);
  EXPECT_NEAR(wide.loss, exact.loss, 1e-5 * exact.loss);
  for (const auto& [name, want] : exact.values) {
    EXPECT_LE(testing::relative_error(wide.values.at(name), want), 1e-5) << name;
    EXPECT_LE(testing::relative_error(narrow.values.at(name), want),
              2 * testing::relative_error(cpu.values.at(name), want) + 2e-3)
        << name;
  }
}

// Steps whose figures are read a step late, against steps that are waited for.
TEST(DevicesAhead, StepsAheadOfTheirFiguresAreTheSame) {
  const std::vector<MicroBatch> batches = {batch_of({150, 1, 212, 37}), batch_of({90, 33}), batch_of({400})};
  for (const auto& device : testing::devices()) {
    const auto run = [&](bool ahead) {
      SessionOptions options;
      options.device = device->kind();
      options.model = small_config(2);
      options.network.compute = DType::bf16;
      options.network.deterministic = true;
      options.network.adapter = [](const std::string&) { return ModuleAdapter{.rank = 16, .dropout = 0.1}; };
      options.train_capacity = {420, 8, 420};
      options.update.max_grad_norm = 1;
      Session session(plan_session(options), *device);
      for (const Role role : {Role::weight, Role::adapter})
        initialize_parameters(session.parameters(), role, 0.08, 1, session.states());
      const auto settings = [](int64_t step) {
        return StepSettings{.learning_rate = 1e-3, .step = step, .seed = 5};
      };
      session.prepare({.micro_batches = batches}, settings(1), {.measure_products = false});
      std::vector<StepResult> results;
      for (int64_t step = 1; step <= 9; ++step) {
        const auto at = static_cast<size_t>(step);
        // Steps of one to three micro-batches: what the next one writes must not reach the last one's
        // figures.
        StepBatch batch;
        for (size_t i = 0; i <= at % 3; ++i) batch.micro_batches.push_back(batches[(at + i) % 3]);
        session.start_step(batch, settings(step));
        EXPECT_EQ(session.steps_in_flight(), ahead && step > 1 ? 2 : 1);
        if (!ahead || step > 1) results.push_back(session.collect_step());
      }
      while (session.steps_in_flight() > 0) results.push_back(session.collect_step());
      std::vector<float> adapter;
      for (const Parameter& parameter : session.parameters().all())
        if (parameter.role == Role::adapter)
          for (const ParameterSlice& slice : parameter.slices) {
            std::vector<float> values(static_cast<size_t>(slice.shape.elements()));
            read_slice(parameter, slice, session.states(), values.data(), DType::f32);
            adapter.insert(adapter.end(), values.begin(), values.end());
          }
      return std::pair(results, adapter);
    };
    const auto [now, weights] = run(false);
    const auto [late, late_weights] = run(true);
    ASSERT_EQ(now.size(), 9u);
    ASSERT_EQ(late.size(), 9u);
    for (size_t i = 0; i < now.size(); ++i) {
      EXPECT_EQ(now[i].loss, late[i].loss) << device->name() << ", step " << i + 1;
      EXPECT_EQ(now[i].grad_norm, late[i].grad_norm) << device->name() << ", step " << i + 1;
      EXPECT_EQ(now[i].accuracy, late[i].accuracy) << device->name() << ", step " << i + 1;
      EXPECT_EQ(now[i].labels, late[i].labels);
    }
    EXPECT_EQ(weights, late_weights);
    EXPECT_NE(now[0].loss, now[8].loss);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, DevicesAgree,
                         ::testing::Values(DeviceCase{"r16", {16}}, DeviceCase{"r32", {32}},
                                           DeviceCase{"r64", {64}}, DeviceCase{"ranks_differ", {16, 8, 4}},
                                           DeviceCase{"dropout", {16}, 0.25}, DeviceCase{"all_weights", {}},
                                           DeviceCase{"small_batch", {16}, 0, 3}),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace serval
