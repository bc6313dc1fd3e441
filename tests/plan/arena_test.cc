// The arena against a checker of its own: what is alive at a call is found by walking the calls, not from the
// planner's lifetimes.
#include "plan/arena.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/parallel.h"
#include "plan/offload.h"
#include "plan/random_program.h"
#include "plan/recompute.h"

namespace serval::testing {
namespace {

struct Block {
  std::string name;
  int64_t begin = 0, end = 0;
};

// Roots that hold memory of the arena, or of its counterpart in host memory, during call `at`: touched at or
// before it and at or after it, inputs always, and operands and workspace of a start until its wait.
std::vector<Block> alive_at(const Program& program, const ArenaPlan& plan, int64_t at, bool host = false) {
  std::map<TensorId, std::pair<bool, bool>> touched;  // before or at; at or after
  const auto touch = [&](TensorId id, int64_t position) {
    auto& [before, after] = touched[program.root(id)];
    before = before || position <= at;
    after = after || position >= at;
  };
  for (size_t c = 0; c < program.calls.size(); ++c) {
    const OpCall& call = program.calls[c];
    for_each_operand(call, [&](TensorId id) { touch(id, static_cast<int64_t>(c)); });
    if (call.entry != EntryKind::wait) continue;
    for_each_operand(program.calls[static_cast<size_t>(call.pair)],
                     [&](TensorId id) { touch(id, static_cast<int64_t>(c)); });
  }
  for (size_t id = 0; id < program.tensors.size(); ++id)
    if (program.tensors[id].kind == TensorKind::input && program.tensors[id].base == kNone)
      touched[static_cast<TensorId>(id)] = {true, true};
  std::vector<Block> blocks;
  for (const auto& [id, when] : touched) {
    const TensorDecl& decl = program.tensor(id);
    if (decl.kind == TensorKind::state || decl.host != host || !when.first || !when.second) continue;
    const int64_t offset = plan.offsets[static_cast<size_t>(id)];
    EXPECT_GE(offset, 0) << decl.name;
    blocks.push_back({decl.name, offset, offset + decl.span_bytes()});
  }
  if (host) return blocks;
  std::set<int64_t> running = {at};
  for (int64_t c = 0; c < static_cast<int64_t>(program.calls.size()); ++c) {
    const OpCall& call = program.calls[static_cast<size_t>(c)];
    if (call.entry == EntryKind::start && c <= at) running.insert(c);
    if (call.entry == EntryKind::wait && c < at) running.erase(call.pair);
  }
  for (const int64_t c : running) {
    if (const int64_t bytes = workspace_of(CallView{program, program.calls[static_cast<size_t>(c)]});
        bytes > 0) {
      const int64_t offset = plan.workspace_offsets[static_cast<size_t>(c)];
      EXPECT_GE(offset, 0);
      blocks.push_back({"workspace", offset, offset + bytes});
    }
  }
  return blocks;
}

void check_plan(const Program& program, const ArenaPlan& plan) {
  const auto calls = static_cast<int64_t>(program.calls.size());
  for (int64_t turn = 0; turn < 2 * calls; ++turn) {
    const int64_t at = turn % calls;
    const bool host = turn >= calls;
    const auto blocks = alive_at(program, plan, at, host);
    int64_t bytes = 0;
    for (size_t i = 0; i < blocks.size(); ++i) {
      bytes += blocks[i].end - blocks[i].begin;
      EXPECT_EQ(blocks[i].begin % kArenaAlignment, 0) << blocks[i].name;
      EXPECT_LE(blocks[i].end, host ? plan.host_bytes : plan.bytes) << blocks[i].name;
      for (size_t j = 0; j < i; ++j)
        ASSERT_TRUE(blocks[i].end <= blocks[j].begin || blocks[j].end <= blocks[i].begin)
            << blocks[i].name << " and " << blocks[j].name << " overlap during call " << at;
    }
    if (!host) {
      EXPECT_LE(bytes, arena_lower_bound(program));
    }
  }
  EXPECT_GE(plan.bytes, arena_lower_bound(program));
}

// Turns some calls into start and wait, the wait some calls later, and the last ones at the end.
Program with_pairs(const Program& source, uint64_t seed) {
  Random random(seed);
  Program result = source;
  result.calls.clear();
  std::vector<int32_t> open;
  const auto wait = [&] {
    OpCall call = result.calls[static_cast<size_t>(open.back())];
    call.entry = EntryKind::wait;
    call.pair = open.back();
    call.inputs.clear(), call.outputs.clear(), call.updates.clear();
    result.calls.push_back(call);
    open.pop_back();
  };
  for (const OpCall& call : source.calls) {
    result.calls.push_back(call);
    if (random.chance(0.2)) {
      result.calls.back().entry = EntryKind::start;
      open.push_back(static_cast<int32_t>(result.calls.size()) - 1);
    }
    if (!open.empty() && random.chance(0.3)) wait();
  }
  while (!open.empty()) wait();
  return result;
}

TEST(Arena, NothingAliveTogetherOverlaps) {
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomProgram random = random_program(seed, seed % 2 == 0 ? DType::f32 : DType::bf16);
    Program whole = random.program;
    differentiate(whole, random.parameters, random.seeds);
    check_plan(whole, plan_arena(whole));
    const Program lean = recompute(whole, drop_all_but_block_inputs(whole));
    check_plan(lean, plan_arena(lean));
    const Program offloaded = offload_block_inputs(lean);
    check_plan(offloaded, plan_arena(offloaded));
    const Program pairs = with_pairs(whole, seed);
    check_plan(pairs, plan_arena(pairs));
    if (HasFailure()) break;
  }
}

// The checker itself: two tensors of one call at one place.
TEST(Arena, CheckerSeesAnOverlap) {
  const RandomProgram random = random_program(1, DType::f32);
  ArenaPlan plan = plan_arena(random.program);
  const OpCall& call = random.program.calls[1];
  const TensorId out = random.program.root(call.outputs[0]);
  plan.offsets[static_cast<size_t>(out)] = plan.offsets[static_cast<size_t>(call.inputs[0])];
  bool overlap = false;
  const auto blocks = alive_at(random.program, plan, 1);
  for (size_t i = 0; i < blocks.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      overlap = overlap || (blocks[i].begin < blocks[j].end && blocks[j].begin < blocks[i].end);
  EXPECT_TRUE(overlap);
}

// A decoder of the real shape of Qwen3-0.6B, written with the bare ops: one block input kept per layer.
Program decoder(int64_t layers, int64_t tokens, std::vector<ParameterGradient>& parameters) {
  Program program;
  ProgramBuilder b(program);
  const int64_t hidden = 1024, heads = 16, kv = 8, dim = 128, middle = 3072, vocab = 151936;
  const TensorId ids = b.input("ids", DType::i32, {tokens}),
                 positions = b.input("positions", DType::i32, {tokens});
  const TensorId cu = b.input("cu_seqlens", DType::i32, {2});
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
  TensorId x = ops::embedding(b, "embed", ids, weight("embed", {vocab, hidden})), branch = kNone;
  for (int64_t layer = 0; layer < layers; ++layer) {
    NameScope scope(b, "layers." + std::to_string(layer));
    TensorId y = kNone;
    if (branch == kNone) {
      y = ops::rms_norm(b, "norm", x, weight("norm", {hidden}), 1e-6);
    } else {
      const auto out = ops::residual_rms_norm(b, "norm", x, branch, weight("norm", {hidden}), 1e-6);
      y = out.y, x = out.sum;
    }
    b.mark_keep(x);
    const TensorId qkv = linear("qkv", y, {heads * dim, kv * dim, kv * dim});
    const auto rotated = ops::qk_norm_rope(b, "rope", b.columns(qkv, 0, heads * dim),
                                           b.columns(qkv, heads * dim, kv * dim), table, {.head_dim = dim});
    const TensorId attended =
        ops::attention(b, "attention", rotated.q, rotated.k, b.columns(qkv, (heads + kv) * dim, kv * dim), cu,
                       {heads, kv, dim, 0.1});
    const auto post = ops::residual_rms_norm(b, "post_norm", x, linear("o", attended, {hidden}),
                                             weight("post_norm", {hidden}), 1e-6);
    x = post.sum;
    branch = linear("down", ops::swiglu(b, "act", linear("gate_up", post.y, {middle, middle})), {hidden});
  }
  const auto last = ops::residual_rms_norm(b, "norm", x, branch, weight("norm", {hidden}), 1e-6);
  ops::HeadLossOperands head{.hidden = last.y, .weight = program.find("embed")};
  head.label_rows = b.input("label_rows", DType::i32, {tokens});
  head.labels = b.input("labels", DType::i32, {tokens});
  head.row_weights = b.input("row_weights", DType::f32, {tokens});
  head.sums = b.state("sums", DType::f64, {4}, Role::counter);
  ops::head_loss(b, "head", head);
  differentiate(program, parameters);
  return program;
}

TEST(Arena, CloseToTheLowerBoundOnARealShape) {
  std::vector<ParameterGradient> parameters;
  const Program whole = decoder(28, 1024, parameters);
  int64_t before = INT64_MAX;
  for (const DropList& drop :
       {DropList(whole.tensors.size(), false), drop_cheap(whole), drop_all_but_block_inputs(whole)}) {
    const Program program = recompute(whole, drop);
    const ArenaPlan plan = plan_arena(program);
    check_plan(program, plan);
    const double waste = static_cast<double>(plan.bytes) / static_cast<double>(arena_lower_bound(program));
    EXPECT_LE(waste, 1.02) << plan.bytes;
    EXPECT_LT(plan.bytes, before);
    before = plan.bytes;
  }
}

}  // namespace
}  // namespace serval::testing
