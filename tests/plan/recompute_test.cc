// Dropping tensors and computing them again changes no bit of any gradient, and frees memory.
#include "plan/recompute.h"

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "plan/arena.h"
#include "plan/random_program.h"

namespace serval::testing {
namespace {

using GradientBits = std::vector<std::vector<char>>;

GradientBits run(const Program& program, const RandomProgram& random, ArenaKind kind) {
  ProgramRunner runner(program, kind);
  random.load(runner);
  runner.run();
  GradientBits bits;
  for (const auto& p : random.parameters) bits.push_back(runner.raw(p.gradient));
  return bits;
}

DropList random_drop(const Program& program, uint64_t seed) {
  Random random(seed);
  DropList drop = drop_ops(program, {"linear", "add", "attention", "embedding", "rope_table"});
  for (size_t i = 0; i < drop.size(); ++i) drop[i] = drop[i] && random.chance(0.5);
  return drop;
}

int64_t recomputed_calls(const Program& program) {
  int64_t count = 0;
  for (const auto& call : program.calls) count += call.recomputed ? 1 : 0;
  return count;
}

TEST(Recompute, ChangesNoBit) {
  set_num_threads(1);
  int64_t again = 0;
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    for (uint64_t seed = 1; seed <= 60; ++seed) {
      SCOPED_TRACE(std::string(name_of(dtype)) + " seed " + std::to_string(seed));
      const RandomProgram random = random_program(seed, dtype);
      Program whole = random.program;
      differentiate(whole, random.parameters, random.seeds);
      const GradientBits expected = run(whole, random, ArenaKind::scattered);
      ASSERT_EQ(run(whole, random, ArenaKind::packed), expected);
      for (const DropList& drop : {drop_cheap(whole), drop_all_but_block_inputs(whole),
                                   random_drop(whole, seed), random_drop(whole, seed + 500)}) {
        const Program lean = recompute(whole, drop);
        again += recomputed_calls(lean);
        ASSERT_EQ(run(lean, random, ArenaKind::packed), expected);
      }
    }
  }
  EXPECT_GT(again, 500);
}

TEST(Recompute, LeavesTheProgramAloneWithoutDrops) {
  const RandomProgram random = random_program(3, DType::f32);
  Program whole = random.program;
  differentiate(whole, random.parameters, random.seeds);
  const Program same = recompute(whole, DropList(whole.tensors.size(), false));
  EXPECT_EQ(same.calls.size(), whole.calls.size());
  EXPECT_EQ(recomputed_calls(same), 0);
}

// A wait keeps its start through the calls that are put between them.
TEST(Recompute, KeepsPairs) {
  const RandomProgram random = random_program(5, DType::f32);
  Program whole = random.program;
  differentiate(whole, random.parameters, random.seeds);
  OpCall start = whole.calls.front();
  start.entry = EntryKind::start;
  OpCall wait = start;
  wait.entry = EntryKind::wait;
  wait.inputs.clear(), wait.outputs.clear();
  start.phase = wait.phase = Phase::update;
  wait.pair = static_cast<int32_t>(whole.calls.size());
  whole.calls.push_back(start);
  whole.calls.push_back(wait);
  const Program lean = recompute(whole, drop_all_but_block_inputs(whole));
  ASSERT_GT(lean.calls.size(), whole.calls.size());
  EXPECT_EQ(lean.calls.back().pair, static_cast<int32_t>(lean.calls.size()) - 2);
}

}  // namespace
}  // namespace serval::testing
