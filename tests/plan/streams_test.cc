// Starts and waits: which side stream they are given; and that the arena honours lives from start to wait,
// whenever in between an asynchronous device does the work.
#include "plan/streams.h"

#include <gtest/gtest.h>

#include <set>

#include "base/parallel.h"
#include "plan/random_program.h"
#include "plan/recompute.h"

namespace serval::testing {
namespace {

// Entries in short: "s0" starts a pair, "w0" waits for it, "c" is a call.
std::vector<int> sides(const std::vector<std::string>& entries) {
  Program program;
  std::map<char, int32_t> start;
  for (const std::string& entry : entries) {
    OpCall call{.op = &ops::copy_op, .name = entry};
    if (entry[0] == 's') {
      call.entry = EntryKind::start;
      start[entry[1]] = static_cast<int32_t>(program.calls.size());
    } else if (entry[0] == 'w') {
      call.entry = EntryKind::wait;
      call.pair = start.contains(entry[1]) ? start[entry[1]] : -1;
    }
    program.calls.push_back(call);
  }
  return assign_streams(program);
}

TEST(Streams, PairsThatOverlapGetStreamsOfTheirOwn) {
  EXPECT_EQ(sides({"c", "c"}), (std::vector<int>{-1, -1}));
  EXPECT_EQ(sides({"s0", "c", "w0", "s1", "w1"}), (std::vector<int>{0, -1, 0, 0, 0}));
  EXPECT_EQ(sides({"s0", "s1", "c", "w0", "s2", "w1", "w2"}), (std::vector<int>{0, 1, -1, 0, 0, 1, 0}));
}

TEST(Streams, RefusesWhatIsNoPair) {
  EXPECT_DEATH(sides({"s0", "c"}), "nothing waits for");
  EXPECT_DEATH(sides({"c", "w0"}), "waits for no start");
  EXPECT_DEATH(sides({"s0", "w0", "w0"}), "waited for twice");
}

using Bits = std::vector<std::vector<char>>;

Bits run(const Program& program, ArenaPlan plan, const RandomProgram& random, bool late) {
  ProgramRunner runner(program, std::move(plan));
  random.load(runner);
  runner.executor().set_late_starts(late);
  runner.run();
  Bits bits;
  for (const auto& p : random.parameters) bits.push_back(runner.raw(p.gradient));
  return bits;
}

// Makes pairs of some calls. Their waits come no later than the first call that needs them done: one that
// touches what they write, or writes what they read.
Program with_pairs(const Program& source, Random& random) {
  Program result = source;
  result.calls.clear();
  struct Open {
    int32_t start;
    std::set<TensorId> written, read;
  };
  std::vector<Open> open;
  const auto wait = [&](size_t which) {
    OpCall call = result.calls[static_cast<size_t>(open[which].start)];
    call.entry = EntryKind::wait;
    call.pair = open[which].start;
    call.inputs.clear(), call.outputs.clear(), call.updates.clear();
    result.calls.push_back(call);
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(which));
  };
  for (const OpCall& call : source.calls) {
    std::set<TensorId> written, read;
    for (const TensorId id : call.inputs)
      if (id != kNone) read.insert(source.root(id));
    for (const auto* list : {&call.outputs, &call.updates})
      for (const TensorId id : *list)
        if (id != kNone) written.insert(source.root(id));
    for (size_t i = open.size(); i-- > 0;) {
      const auto meets = [](const std::set<TensorId>& a, const std::set<TensorId>& b) {
        return std::any_of(a.begin(), a.end(), [&](TensorId id) { return b.contains(id); });
      };
      if (meets(open[i].written, read) || meets(open[i].written, written) || meets(open[i].read, written) ||
          random.chance(0.1))
        wait(i);
    }
    result.calls.push_back(call);
    if (!random.chance(0.4)) continue;
    result.calls.back().entry = EntryKind::start;
    open.push_back({static_cast<int32_t>(result.calls.size()) - 1, std::move(written), std::move(read)});
  }
  while (!open.empty()) wait(open.size() - 1);
  return result;
}

TEST(Streams, ResultsDoNotDependOnWhenAStartIsDone) {
  set_num_threads(1);
  int64_t pairs = 0, apart = 0, shortened = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomProgram random = random_program(seed, seed % 2 == 0 ? DType::f32 : DType::bf16);
    Program whole = random.program;
    differentiate(whole, random.parameters, random.seeds);
    const Program plain = recompute(whole, drop_cheap(whole));
    const Bits expected = run(plain, plan_arena(plain), random, false);
    Random chance(seed);
    const Program program = with_pairs(plain, chance);
    for (size_t c = 0; c < program.calls.size(); ++c) {
      if (program.calls[c].entry != EntryKind::wait) continue;
      ++pairs;
      apart += program.calls[c].pair + 1 < static_cast<int64_t>(c) ? 1 : 0;
    }
    const ArenaPlan plan = plan_arena(program);
    ASSERT_EQ(run(program, plan, random, false), expected);
    ASSERT_EQ(run(program, plan, random, true), expected);
    // The same with lives that end at the start, as if there were no waits: some results must be wrong, or
    // the above shows nothing.
    Program synchronous = program;
    for (size_t c = 0; c < synchronous.calls.size(); ++c) {
      OpCall& call = synchronous.calls[c];
      if (call.entry == EntryKind::start) call.entry = EntryKind::call;
      if (call.entry == EntryKind::wait) call.pair = static_cast<int32_t>(c);
    }
    shortened += run(program, plan_arena(synchronous), random, true) != expected ? 1 : 0;
  }
  EXPECT_GT(pairs, 1000);
  EXPECT_GT(apart, 300);
  EXPECT_GT(shortened, 10);
}

}  // namespace
}  // namespace serval::testing
