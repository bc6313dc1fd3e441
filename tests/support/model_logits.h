// Logits of every token, for tests: by the forward pass that training and evaluation run, and by generation
// with a KV cache.
//
//   auto load = [&](const ParameterTable& table, StateStore& states) { ... };
//   std::vector<float> rows = forward_logits(config, options, {ids}, load, *device);  // [tokens, vocab_size]
#pragma once
#include <algorithm>
#include <functional>
#include <span>
#include <vector>

#include "data/batch_stream.h"
#include "generate/generator.h"
#include "models/decoder.h"
#include "models/pretrained.h"
#include "ops/head/head.h"
#include "plan/arena.h"
#include "run/executor.h"

namespace serval::testing {

using Documents = std::vector<std::vector<int32_t>>;
using LoadWeights = std::function<void(const ParameterTable&, StateStore&)>;

inline LoadWeights weights_of(const Pretrained& model) {
  return [&model](const ParameterTable& table, StateStore& states) {
    model.load_weights(table, states);
    model.load_adapter_weights(table, states);
  };
}

// The documents packed into one run: attention and positions begin again with each.
inline std::vector<float> forward_logits(const DecoderConfig& config, const NetworkOptions& options,
                                         const Documents& documents, const LoadWeights& load,
                                         Device& device) {
  std::vector<int32_t> ids, positions, rows, boundaries{0};
  for (const auto& document : documents) {
    for (size_t i = 0; i < document.size(); ++i) {
      rows.push_back(static_cast<int32_t>(ids.size()));
      ids.push_back(document[i]);
      positions.push_back(static_cast<int32_t>(i));
    }
    boundaries.push_back(static_cast<int32_t>(ids.size()));
  }
  const int64_t tokens = static_cast<int64_t>(ids.size());
  Program program{.name = "logits", .device = device.kind()};
  ProgramBuilder b(program);
  ParameterTable table;
  Network net(b, table, options);
  DecoderInputs in;
  in.input_ids = b.input("input_ids", DType::i32, {tokens});
  in.position_ids = b.input("position_ids", DType::i32, {tokens});
  in.cu_seqlens = b.input("cu_seqlens", DType::i32, {static_cast<int64_t>(boundaries.size())});
  const TensorId wanted = b.input("rows", DType::i32, {tokens});
  const TensorId hidden = decoder_forward(net, config, in);
  const DType wide = options.compute == DType::f64 ? DType::f64 : DType::f32;
  const TensorId target = b.state("logits", wide, {tokens, config.vocab_size}, Role::cache);
  ops::logits(b, "lm_head", hidden, decoder_head_weight(net, config), wanted, target);

  StateStore states(device);
  states.declare(program);
  states.allocate();
  load(table, states);
  ArenaPlan plan = plan_arena(program);
  const Buffer arena(device, plan.bytes);
  Executor executor(std::move(program), std::move(plan), arena.data(), states);
  executor.set_input("input_ids", ids);
  executor.set_input("position_ids", positions);
  executor.set_input("cu_seqlens", boundaries);
  executor.set_input("rows", rows);
  executor.run();
  std::vector<float> logits(static_cast<size_t>(tokens * config.vocab_size));
  states.with_values("logits", 0, tokens * config.vocab_size, [&](const void* values) {
    convert_elements(values, wide, logits.data(), DType::f32, tokens * config.vocab_size);
  });
  return logits;
}

// By generation: token by token, but the 7th row from a prompt of 7 tokens that is read in pieces of 5.
inline std::vector<float> cached_logits(const DecoderConfig& config, const NetworkOptions& options,
                                        const Documents& documents, const LoadWeights& load, Device& device) {
  constexpr size_t kPrompt = 7;
  size_t longest = 1;
  for (const auto& document : documents) longest = std::max(longest, document.size());
  const GeneratorOptions settings{
      .model = config, .network = options, .capacity = static_cast<int64_t>(longest), .prefill_tokens = 5};
  std::vector<float> logits;
  for (const auto& document : documents) {
    Generator generator(settings, device);
    load(generator.parameters(), generator.states());
    const std::span<const int32_t> ids(document);
    for (size_t end = 1; end <= ids.size(); ++end) {
      if (end == kPrompt) generator.logits_after(ids.subspan(1, 1));  // another text: the cache is forgotten
      const auto row = generator.logits_after(ids.first(end));
      logits.insert(logits.end(), row.begin(), row.end());
    }
  }
  return logits;
}

}  // namespace serval::testing
