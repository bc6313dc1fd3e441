// The training program of a real shape, as a GPU would run it: what the memory options leave in the arena.
#include <gtest/gtest.h>

#include <map>

#include "ops/linear/linear.h"
#include "train/bench.h"
#include "train/session.h"

namespace serval {
namespace {

struct Sizes {
  int64_t arena = 0, host = 0;
  double recomputed = 0;
};

class Qwen8b : public ::testing::Test {
 protected:
  Qwen8b() : config_(read_decoder_config(shape_config("qwen3-8b"), "qwen3-8b")) {
    network_.compute = DType::bf16;
    network_.adapter = [](const std::string&) { return ModuleAdapter{.rank = 16, .scale = 1}; };
  }
  Program build(const MemoryOptions& memory) const {
    ParameterTable table;
    return build_train_program(config_, network_, capacity_, memory, table, DeviceKind::cuda);
  }
  Sizes sizes(const MemoryOptions& memory) const {
    const Program program = build(memory);
    const ArenaPlan plan = plan_arena(program);
    return {plan.bytes, plan.host_bytes, recomputed_flops(program)};
  }
  RecomputeChoice fit(int64_t budget) const {
    return fit_train_program(config_, network_, capacity_, {}, budget, DeviceKind::cuda);
  }

  DecoderConfig config_;
  NetworkOptions network_;
  BatchCapacity capacity_{.tokens = 4096, .documents = 2, .labels = 4096, .longest = 2048};
};

TEST_F(Qwen8b, OffloadingLeavesAFewInputsInTheArena) {
  const Sizes blocks = sizes({.recompute = Recompute::blocks}),
              far = sizes({.recompute = Recompute::blocks, .offload_inputs = true});
  const int64_t input = capacity_.tokens * config_.hidden_size * 2;
  EXPECT_EQ(blocks.host, 0);
  EXPECT_EQ(far.host, (config_.num_hidden_layers - 1) * input);
  EXPECT_EQ(far.recomputed, blocks.recomputed);
  // One that has not been copied yet, one that is being fetched, one in use.
  EXPECT_LE(far.arena, blocks.arena - (config_.num_hidden_layers - 4) * input);
}

TEST_F(Qwen8b, ALargerBudgetCostsLess) {
  const Sizes cheap = sizes({}), blocks = sizes({.recompute = Recompute::blocks});
  double before = blocks.recomputed;
  for (const double share : {0.05, 0.3, 0.7}) {
    const auto budget =
        blocks.arena + static_cast<int64_t>(share * static_cast<double>(cheap.arena - blocks.arena));
    const RecomputeChoice choice = fit(budget);
    ASSERT_TRUE(choice.fits);
    ASSERT_FALSE(choice.calls.empty());
    EXPECT_EQ(sizes({.recompute = Recompute::fitted, .choice = choice}).arena, choice.arena_bytes);
    EXPECT_LT(choice.extra_flops, before);
    before = choice.extra_flops;
  }
}

// A call that is repeated is the same product as before, so it has the same columns beside its input: also
// where the input was kept (o_proj of layer 3) and not computed again itself (layer 5).
TEST_F(Qwen8b, ARepeatedProductIsTheSame) {
  const RecomputeChoice choice{
      .calls = {"model.layers.3.self_attn.o_proj", "model.layers.3.post_attention_layernorm",
                "model.layers.5.self_attn.o_proj", "model.layers.5.self_attn.attention",
                "model.layers.7.mlp.gate_proj+up_proj"}};
  const Program program = build({.recompute = Recompute::fitted, .choice = choice});
  std::map<std::string, TensorId> columns;  // by name, of the first call
  int64_t repeated = 0;
  for (const OpCall& call : program.calls) {
    if (call.op != &ops::linear_op) continue;
    ASSERT_NE(call.outputs[2], kNone) << call.name;
    const auto [first, fresh] = columns.emplace(call.name, call.outputs[2]);
    if (fresh) continue;
    ++repeated;
    EXPECT_EQ(first->second == call.outputs[2], call.name.find("layers.3.") != std::string::npos)
        << call.name;
  }
  EXPECT_EQ(repeated, 3);
}

}  // namespace
}  // namespace serval
