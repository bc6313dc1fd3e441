// The arena: each temporary and input of a program gets an offset in one block of memory; tensors that are
// never alive together may share bytes. A pure function of the program, so peak memory is known before
// anything is loaded.
#pragma once
#include <cstdint>
#include <vector>

#include "program/program.h"

namespace serval {

struct ArenaPlan {
  int64_t bytes = 0;
  int64_t host_bytes = 0;  // of the arena's counterpart in pinned host memory
  // By tensor, of roots, in the one or the other; -1 for states, views and unused tensors.
  std::vector<int64_t> offsets;
  std::vector<int64_t> workspace_offsets;  // by call; -1 where it needs none
};

// First and last call that touch each root tensor; {-1, -1} where none does. Operands of a `start`, and its
// workspace, live to its `wait`.
struct Lifetime {
  int64_t first = -1, last = -1;
};
std::vector<Lifetime> lifetimes(const Program& program);

constexpr int64_t kArenaAlignment = 256;

ArenaPlan plan_arena(const Program& program);

// The most bytes alive at one call: what no arena can go below.
int64_t arena_lower_bound(const Program& program);

}  // namespace serval
