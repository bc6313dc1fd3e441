// Fitting a budget: it is kept to, no bit changes, and a larger budget never costs more.
#include "plan/fit.h"

#include <gtest/gtest.h>

#include <ctime>

#include "base/parallel.h"
#include "plan/arena.h"
#include "plan/random_program.h"
#include "plan/side_columns.h"

namespace serval::testing {
namespace {

using Bits = std::vector<std::vector<char>>;

Bits run(const Program& program, const RandomProgram& random) {
  ProgramRunner runner(program, ArenaKind::packed);
  random.load(runner);
  runner.run();
  Bits bits;
  for (const auto& p : random.parameters) bits.push_back(runner.raw(p.gradient));
  return bits;
}

Program finished(const Program& whole, const DropList& drop) {
  return add_side_columns(recompute(whole, drop));
}

RecomputeChoice fit(const Program& whole, int64_t budget) {
  return fit_recompute(whole, budget, nominal_rates(DeviceKind::cpu), add_side_columns);
}

TEST(Fit, KeepsToTheBudgetAndChangesNoBit) {
  set_num_threads(1);
  int64_t between = 0, cheaper = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomProgram random = random_program(seed, seed % 2 == 0 ? DType::f32 : DType::bf16);
    Program whole = random.program;
    differentiate(whole, random.parameters, random.seeds);
    const Bits expected = run(whole, random);
    const Program blocks = finished(whole, drop_all_but_block_inputs(whole));
    const int64_t leanest = plan_arena(blocks).bytes,
                  cheap = plan_arena(finished(whole, drop_cheap(whole))).bytes;
    double before = recomputed_flops(blocks);
    // Rising budgets, from one that nothing fits to one that needs nothing.
    for (int step = -1; step <= 8; ++step) {
      const int64_t budget = step < 0 ? leanest / 2 : leanest + (cheap - leanest) * step / 8;
      const RecomputeChoice choice = fit(whole, budget);
      const Program lean = finished(whole, drop_list(whole, choice));
      ASSERT_EQ(plan_arena(lean).bytes, choice.arena_bytes);
      ASSERT_EQ(recomputed_flops(lean), choice.extra_flops);
      ASSERT_EQ(choice.fits, choice.arena_bytes <= budget);
      ASSERT_EQ(run(lean, random), expected);
      if (step < 0) continue;
      ASSERT_TRUE(choice.fits);
      ASSERT_LE(choice.extra_flops, before);
      before = choice.extra_flops;
      between += !choice.blocks && !choice.calls.empty() ? 1 : 0;
      cheaper += choice.extra_flops < recomputed_flops(blocks) ? 1 : 0;
    }
    if (leanest < cheap) {
      EXPECT_EQ(fit(whole, cheap).calls, std::vector<std::string>{});
    }
  }
  EXPECT_GT(between, 80);  // the choices in between are what this is about
  EXPECT_GT(cheaper, 200);
}

// Layers of equal shape, as wide as a large model's, so that the planner's time is that of a real plan.
Program large_decoder(int64_t layers, std::vector<ParameterGradient>& parameters) {
  Program program;
  ProgramBuilder b(program);
  const int64_t tokens = 2048, hidden = 8192, heads = 64, kv = 8, dim = 128, middle = 28672;
  const TensorId ids = b.input("ids", DType::i32, {tokens}),
                 positions = b.input("positions", DType::i32, {tokens}),
                 cu = b.input("cu_seqlens", DType::i32, {2});
  const auto weight = [&](const std::string& name, Shape shape) {
    return b.state(b.scoped(name), DType::bf16, shape, Role::weight);
  };
  const auto linear = [&](const std::string& name, TensorId x, const std::vector<int64_t>& segments) {
    const int64_t in = b.tensor(x).shape.row_size();
    int64_t out = 0;
    ops::LinearAdapter adapter;
    adapter.a = weight(name + ".a", {16 * static_cast<int64_t>(segments.size()), in});
    parameters.push_back({adapter.a, b.state(b.scoped(name) + ".a.grad", DType::f32,
                                             b.tensor(adapter.a).shape, Role::gradient)});
    for (size_t i = 0; i < segments.size(); ++i) {
      out += segments[i];
      adapter.ranks.push_back(16);
      adapter.scales.push_back(1);
      adapter.b.push_back(weight(name + ".b" + std::to_string(i), {segments[i], 16}));
    }
    return ops::linear(b, name, x, weight(name + ".weight", {out, in}), kNone, segments, adapter);
  };
  const auto table = ops::rope_table(b, "rope", positions, std::vector<double>(dim / 2, 0.1), 1, DType::bf16);
  TensorId x = ops::embedding(b, "embed", ids, weight("embed", {128256, hidden})), branch = kNone;
  const auto normed = [&](const std::string& name) {
    if (branch == kNone) return ops::rms_norm(b, name, x, weight(name, {hidden}), 1e-6);
    const auto out = ops::residual_rms_norm(b, name, x, branch, weight(name, {hidden}), 1e-6);
    x = out.sum;
    return out.y;
  };
  for (int64_t layer = 0; layer < layers; ++layer) {
    NameScope scope(b, "model.layers." + std::to_string(layer));
    const TensorId y = normed("norm");
    b.mark_keep(x);
    const TensorId qkv = linear("qkv", y, {heads * dim, kv * dim, kv * dim});
    const auto rotated = ops::qk_norm_rope(b, "rope", b.columns(qkv, 0, heads * dim),
                                           b.columns(qkv, heads * dim, kv * dim), table, {.head_dim = dim});
    branch = linear("o",
                    ops::attention(b, "attention", rotated.q, rotated.k,
                                   b.columns(qkv, (heads + kv) * dim, kv * dim), cu, {heads, kv, dim, 0.1}),
                    {hidden});
    branch = linear("down", ops::swiglu(b, "act", linear("gate_up", normed("post_norm"), {middle, middle})),
                    {hidden});
  }
  ops::HeadLossOperands head{.hidden = normed("norm"), .weight = program.find("embed")};
  head.label_rows = b.input("label_rows", DType::i32, {tokens});
  head.labels = b.input("labels", DType::i32, {tokens});
  head.row_weights = b.input("row_weights", DType::f32, {tokens});
  head.sums = b.state("sums", DType::f64, {4}, Role::counter);
  ops::head_loss(b, "head", head);
  differentiate(program, parameters);
  return program;
}

TEST(Fit, ChoosesSomeLayersOfALargeModelInLittleTime) {
  std::vector<ParameterGradient> parameters;
  const Program whole = large_decoder(80, parameters);
  const int64_t cheap = plan_arena(finished(whole, drop_cheap(whole))).bytes;
  const Program blocks = finished(whole, drop_all_but_block_inputs(whole));
  const int64_t leanest = plan_arena(blocks).bytes;
  double before = recomputed_flops(blocks);
  for (const double share : {0.0, 0.02, 0.3, 0.6, 0.9}) {
    const auto budget = leanest + static_cast<int64_t>(share * static_cast<double>(cheap - leanest));
    const std::clock_t start = std::clock();
    const RecomputeChoice choice = fit(whole, budget);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_LT(seconds, 1.0);
    ASSERT_TRUE(choice.fits) << share;
    EXPECT_LT(choice.extra_flops, before * (share > 0 ? 1 : 1.0001)) << share;
    before = choice.extra_flops;
    // What is left of the budget is less than what one more layer would need.
    EXPECT_LT(budget - choice.arena_bytes, (cheap - leanest) / 80) << share;
  }
}

}  // namespace
}  // namespace serval::testing
