// Block inputs in host memory: the same bits whenever the copies are done, and less memory on the device.
#include "plan/offload.h"

#include <gtest/gtest.h>

#include "base/parallel.h"
#include "ops/host_copy/host_copy.h"
#include "plan/random_program.h"
#include "plan/recompute.h"
#include "plan/side_columns.h"
#include "plan/streams.h"
#include "support/devices.h"

namespace serval::testing {
namespace {

using Bits = std::vector<std::vector<char>>;

Bits run(const Program& program, const RandomProgram& random, bool late) {
  ProgramRunner runner(program, ArenaKind::packed);
  random.load(runner);
  runner.executor().set_late_starts(late);
  runner.run();
  Bits bits;
  for (const auto& p : random.parameters) bits.push_back(runner.raw(p.gradient));
  return bits;
}

int64_t count(const Program& program, const Op& op, EntryKind entry) {
  return std::count_if(program.calls.begin(), program.calls.end(),
                       [&](const OpCall& call) { return call.op == &op && call.entry == entry; });
}

TEST(Offload, ChangesNoBit) {
  set_num_threads(1);
  int64_t copies = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomProgram random = random_program(seed, seed % 2 == 0 ? DType::f32 : DType::bf16);
    // More block inputs than a program of this size has, some of them read through views.
    Random chance(seed);
    for (TensorDecl& decl : random.program.tensors)
      if (decl.kind == TensorKind::temporary && decl.base == kNone && chance.chance(0.4)) decl.keep = true;
    Program whole = random.program;
    differentiate(whole, random.parameters, random.seeds);
    const Bits expected = run(whole, random, false);
    for (const DropList& drop : {drop_cheap(whole), drop_all_but_block_inputs(whole)}) {
      const Program program = add_side_columns(offload_block_inputs(recompute(whole, drop)));
      const int64_t out = count(program, ops::copy_to_host_op, EntryKind::start);
      ASSERT_EQ(count(program, ops::copy_to_host_op, EntryKind::wait), out);
      ASSERT_EQ(count(program, ops::copy_from_host_op, EntryKind::start), out);
      ASSERT_EQ(count(program, ops::copy_from_host_op, EntryKind::wait), out);
      ASSERT_EQ(plan_arena(program).host_bytes > 0, out > 0);
      copies += out;
      ASSERT_EQ(run(program, random, false), expected);
      ASSERT_EQ(run(program, random, true), expected);
    }
  }
  EXPECT_GT(copies, 500);
}

// Eight equal layers: h += linear(norm(h)).
struct Layers {
  static constexpr int64_t kLayers = 8, kTokens = 64, kHidden = 32;
  Program program;
  std::vector<ParameterGradient> parameters;
  std::vector<GradientSeed> seeds;

  Layers() {
    ProgramBuilder b(program);
    TensorId h = b.input("x", DType::f32, {kTokens, kHidden}), branch = kNone;
    const auto weight = [&](const std::string& name, Shape shape) {
      const TensorId id = b.state(b.scoped(name), DType::f32, shape, Role::weight);
      parameters.push_back({id, b.state(b.scoped(name) + ".grad", DType::f32, shape, Role::gradient)});
      return id;
    };
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      NameScope scope(b, "layers." + std::to_string(layer));
      TensorId y = kNone;
      if (branch == kNone) {
        y = ops::rms_norm(b, "norm", h, weight("norm", {kHidden}), 1e-5);
      } else {
        const auto out = ops::residual_rms_norm(b, "norm", h, branch, weight("norm", {kHidden}), 1e-5);
        h = out.sum, y = out.y;
        b.mark_keep(h);
      }
      const TensorId up = ops::linear(b, "up", y, weight("up", {8 * kHidden, kHidden}), kNone, {8 * kHidden});
      branch = ops::linear(b, "down", ops::swiglu(b, "act", up), weight("down", {kHidden, 4 * kHidden}),
                           kNone, {kHidden});
    }
    seeds.push_back({branch, b.input("dy", DType::f32, {kTokens, kHidden})});
    differentiate(program, parameters, seeds);
  }
};

TEST(Offload, KeepsAFewLayersInputsOnTheDevice) {
  const Layers layers;
  const Program blocks = recompute(layers.program, drop_all_but_block_inputs(layers.program));
  const Program program = offload_block_inputs(blocks);
  const ArenaPlan with = plan_arena(program), without = plan_arena(blocks);
  constexpr int64_t kInput = Layers::kTokens * Layers::kHidden * 4;
  // Seven inputs are written by layers; the last one stays.
  EXPECT_EQ(with.host_bytes, 6 * kInput);
  EXPECT_LE(with.bytes, without.bytes - 3 * kInput);
  for (const int side : assign_streams(program)) EXPECT_LE(side, 0);  // one side stream does it
  // A fetch is begun with the layer before it: at least that layer's products lie between start and wait.
  for (size_t c = 0; c < program.calls.size(); ++c) {
    const OpCall& call = program.calls[c];
    if (call.entry != EntryKind::wait) continue;
    int64_t products = 0;
    for (size_t i = static_cast<size_t>(call.pair); i < c; ++i)
      products += program.calls[i].op->name.starts_with("linear") ? 1 : 0;
    EXPECT_GE(products, 2) << call.name;
  }
}

TEST(Offload, LeavesAloneWhatItCannotMove) {
  Layers layers;
  // Nothing is marked.
  Program unmarked = layers.program;
  for (TensorDecl& decl : unmarked.tensors) decl.keep = false;
  EXPECT_EQ(offload_block_inputs(unmarked).calls.size(), unmarked.calls.size());
  // One input alone has nothing to hide its fetch behind.
  bool first = true;
  for (TensorDecl& decl : unmarked.tensors)
    if (decl.name == "layers.3.norm.sum" && std::exchange(first, false)) decl.keep = true;
  ASSERT_FALSE(first);
  EXPECT_EQ(offload_block_inputs(unmarked).calls.size(), unmarked.calls.size());
}

// The op itself, rows apart on one side, on every device, early and late, entry by entry and as a graph.
TEST(HostCopy, ThereAndBack) {
  for (const DeviceKind kind : {DeviceKind::cpu, DeviceKind::cuda}) {
    const std::shared_ptr<Device> device = device_of(kind);
    if (device == nullptr) continue;
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const int64_t columns : {1, 7, 64}) {
        Program program{.name = "copies", .device = kind};
        ProgramBuilder b(program);
        const TensorId rows = b.input("rows", DType::i32, {1});
        const TensorId wide = b.input("wide", dtype, {5, columns + 3}, rows);
        const TensorId x = b.columns(wide, 2, columns);
        const TensorId far = b.temporary("far", dtype, {5, columns}, rows);
        program.tensor(far).host = true;
        const TensorId target = b.state("target", dtype, {5, columns + 3}, Role::weight);
        const TensorId y = b.temporary("y", dtype, {5, columns}, rows);
        const auto wait = [&] {
          OpCall call{.op = program.calls.back().op, .name = program.calls.back().name};
          program.calls.back().entry = EntryKind::start;
          call.entry = EntryKind::wait;
          call.pair = static_cast<int32_t>(program.calls.size()) - 1;
          program.calls.push_back(call);
        };
        ops::copy_to_host(b, "out", x, far);
        wait();
        ops::copy_from_host(b, "in", far, y);
        wait();
        ops::copy(b, "copy", y, b.columns(target, 1, columns));
        ProgramRunner runner(program, ArenaKind::scattered, device);
        runner.set(rows, {4});
        Random random(static_cast<uint64_t>(columns));
        std::vector<double> values = random.normals(4 * (columns + 3));
        runner.set(wide, values);
        values = runner.get(wide);  // as rounded
        for (const bool late : {false, true}) {
          runner.executor().set_late_starts(late);
          runner.set(target, std::vector<double>(static_cast<size_t>(5 * (columns + 3)), 0));
          runner.run();
          if (!late && device->has_graphs()) {
            runner.executor().capture();
            runner.set(target, std::vector<double>(static_cast<size_t>(5 * (columns + 3)), 0));
            runner.run();
          }
          const auto got = runner.get(target);
          for (int64_t row = 0; row < 4; ++row)
            for (int64_t i = 0; i < columns; ++i)
              ASSERT_EQ(got[static_cast<size_t>(row * (columns + 3) + 1 + i)],
                        values[static_cast<size_t>(row * (columns + 3) + 2 + i)]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace serval::testing
