#include "run/executor.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "plan/differentiate.h"
#include "plan/random_program.h"

namespace serval::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// norm -> linear, a count of valid rows; the linear's output is a state, so that it can be read at any time.
struct SmallModel {
  Program program;
  TensorId x, normed, y;
  SmallModel() {
    ProgramBuilder b(program);
    const TensorId count = b.input("count", DType::i32, {1});
    x = b.input("x", DType::f32, {4, 8}, count);
    NameScope scope(b, "layers.3");
    normed = ops::rms_norm(b, "norm", x, b.state("norm.weight", DType::f32, {8}, Role::weight), 1e-5);
    y = ops::linear(b, "proj", normed, b.state("proj.weight", DType::f32, {6, 8}, Role::weight), kNone, {6});
  }
};

void load(ProgramRunner& runner, int64_t rows) {
  Random random(1);
  runner.set("count", {static_cast<double>(rows)});
  runner.set("x", random.normals(rows * 8));
  runner.set("norm.weight", random.normals(8));
  runner.set("proj.weight", random.normals(48));
}

TEST(Executor, RunsTheValidRowsOnly) {
  const SmallModel model;
  std::vector<double> full;
  for (const int64_t rows : {4, 1, 0, 3}) {
    ProgramRunner runner(model.program, ArenaKind::scattered);
    load(runner, rows);
    runner.run();
    const auto y = runner.get(model.y);
    ASSERT_EQ(y.size(), static_cast<size_t>(rows * 6));
    if (rows == 4) full = y;
    for (size_t i = 0; i < y.size(); ++i) EXPECT_TRUE(std::isfinite(y[i]));
  }
}

// A count from the host is no reason to leave the arena.
TEST(Executor, ClampsACountToTheCapacity) {
  const SmallModel model;
  ProgramRunner runner(model.program, ArenaKind::scattered);
  load(runner, 4);
  for (const double count : {-5.0, 1e9}) {
    runner.set("count", {count});
    runner.run();
  }
}

TEST(Executor, ExecutorSeesTheNextRunsCountAndInputs) {
  const SmallModel model;
  ProgramRunner runner(model.program, ArenaKind::scattered);
  load(runner, 4);
  runner.run();
  const auto first = runner.get(model.y);
  std::vector<float> doubled;
  for (const double v : runner.get("x")) doubled.push_back(static_cast<float>(2 * v));
  runner.executor().set_input("x", doubled);
  runner.set("count", {2});
  runner.run();
  const auto second = runner.get(model.y);
  ASSERT_EQ(second.size(), 12u);
  // RMSNorm does not see the factor, up to eps.
  for (size_t i = 0; i < second.size(); ++i)
    EXPECT_NEAR(second[i], first[i], 1e-3 * (1 + std::abs(first[i])));
}

std::string failure_of(ProgramRunner& runner) {
  try {
    runner.run();
  } catch (const UserError& error) {
    return error.what();
  }
  return {};
}

TEST(Executor, CheckNanNamesTheFirstCallAndTensor) {
  const SmallModel model;
  ProgramRunner runner(model.program, ArenaKind::scattered);
  load(runner, 3);
  runner.executor().set_check_nan(true);
  EXPECT_EQ(failure_of(runner), "");  // the poisoned fourth row is not looked at
  std::vector<double> weight(48, 1.0);
  weight[20] = kInfinity;
  runner.set("proj.weight", weight);
  const std::string linear = failure_of(runner);
  for (const char* part : {"forward", "'layers.3.proj'", "op linear", "row 0"})
    EXPECT_NE(linear.find(part), std::string::npos) << linear;
  std::vector<double> x(24, 1.0);
  x[17] = std::numeric_limits<double>::quiet_NaN();
  runner.set("x", x);
  const std::string norm = failure_of(runner);
  for (const char* part : {"'layers.3.norm'", "op rms_norm", "row 2", "tensor 'layers.3.norm'"})
    EXPECT_NE(norm.find(part), std::string::npos) << norm;
}

TEST(Executor, CheckNanLooksAtUpdatedStates) {
  Program program;
  ProgramBuilder b(program);
  const TensorId part = b.input("part", DType::bf16, {3, 5});
  ops::accumulate(b, "accumulate", b.state("sum", DType::bf16, {3, 5}, Role::gradient), part);
  ProgramRunner runner(program, ArenaKind::packed);
  runner.executor().set_check_nan(true);
  std::vector<double> values(15, 1.0);
  runner.set(part, values);
  EXPECT_EQ(failure_of(runner), "");
  values[7] = -kInfinity;
  runner.set(part, values);
  EXPECT_NE(failure_of(runner).find("row 1 of the tensor 'sum'"), std::string::npos);
}

// Two runs on one thread count give equal bits, and so do executors that share nothing.
TEST(Executor, EqualBits) {
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      const RandomProgram random = random_program(seed, seed % 2 == 0 ? DType::bf16 : DType::f32);
      Program whole = random.program;
      differentiate(whole, random.parameters, random.seeds);
      ProgramRunner first(whole, ArenaKind::packed), second(whole, ArenaKind::scattered);
      random.load(first);
      random.load(second);
      first.run();
      for (const auto& p : random.parameters) first.states().zero(whole.tensor(p.gradient).name);
      first.run();
      second.run();
      for (const auto& p : random.parameters)
        ASSERT_EQ(first.raw(p.gradient), second.raw(p.gradient)) << seed;
    }
  }
  set_num_threads(0);
}

TEST(Executor, ProfileSumsCallsByOp) {
  const SmallModel model;
  ProgramRunner runner(model.program, ArenaKind::packed);
  load(runner, 4);
  runner.run();
  for (const auto& time : runner.executor().times()) EXPECT_EQ(time.calls, 0);
  runner.executor().set_profile(true);
  for (int i = 0; i < 3; ++i) runner.run();
  const auto times = runner.executor().times();
  ASSERT_EQ(times.size(), 2u);
  for (const auto& time : times) {
    EXPECT_EQ(time.calls, 3);
    EXPECT_GT(time.seconds, 0);
    EXPECT_GT(time.bytes, 0);
    const double flops = time.op == "linear" ? 2.0 * 4 * 8 * 6 : 4.0 * 4 * 8;
    EXPECT_EQ(time.flops, 3 * flops);
  }
}

TEST(Executor, ObserverSeesEachTensorRightAfterItsCall) {
  const SmallModel model;
  ProgramRunner runner(model.program, ArenaKind::packed);
  load(runner, 4);
  std::vector<std::string> seen;
  runner.executor().set_observer([&](const OpCall& call, const Executor& executor) {
    seen.push_back(call.name);
    EXPECT_EQ(executor.operand(call.outputs[0]).rows, 4);
  });
  runner.run();
  EXPECT_EQ(seen, (std::vector<std::string>{"layers.3.norm", "layers.3.proj"}));
}

TEST(StateStore, SharesStatesOfProgramsAndCountsBytes) {
  const SmallModel model;
  Program other;
  ProgramBuilder b(other);
  b.state("norm.weight", DType::f32, {8}, Role::weight);
  b.state("norm.m", DType::f32, {8}, Role::optimizer);
  const auto device = make_cpu_device();
  StateStore states(*device);
  states.declare(model.program);
  states.declare(other);
  states.allocate();
  EXPECT_EQ(states.states().size(), 3u);
  EXPECT_EQ(states.bytes_of(Role::weight), (8 + 48) * 4);
  EXPECT_EQ(states.bytes_of(Role::optimizer), 8 * 4);
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
  states.write("norm.weight", values.data());
  std::vector<float> back(8);
  states.read("norm.weight", back.data());
  EXPECT_EQ(back, values);
  states.read("norm.m", back.data());
  EXPECT_EQ(back, std::vector<float>(8, 0.0f));  // allocated as zeros
  states.zero("norm.weight");
  states.read("norm.weight", back.data());
  EXPECT_EQ(back, std::vector<float>(8, 0.0f));
}

}  // namespace
}  // namespace serval::testing
