// What a run needs of memory, before anything of it is allocated; and what is computed again so that it fits.
//
//   setup.plan = plan_within_memory(setup, options);     // chooses where recompute is `auto`
//   check_memory(setup);                                 // or refuses
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "train/session.h"

namespace serval {

struct TrainingSetup;

// Device memory that the driver and the libraries take beside the plan: the context, their code, the
// products' scratch (measured, see docs/performance.md).
constexpr int64_t kCudaOverheadBytes = int64_t{600} << 20;

// Memory the process needs beside the plan: code, libraries, thread stacks, product scratch.
constexpr int64_t kFixedOverheadBytes = int64_t{56} << 20;

struct MemoryPlan {
  std::vector<MemoryRow> rows;
  int64_t total = 0;
  int64_t pinned_host = 0;  // beside a GPU's memory, and no row of it
};
MemoryPlan memory_plan(const TrainingSetup& setup);

// `auto` keeps what is worth keeping; where that would not fit, it computes again as little as does fit. A
// run that goes on takes the choice of its checkpoint, if that still fits.
SessionPlan plan_within_memory(const TrainingSetup& setup, SessionOptions options);

// Refuses a run that cannot fit, with the settings that would.
void check_memory(const TrainingSetup& setup);

// recompute.json beside the run and in each checkpoint: what was chosen.
void write_memory_options(const std::string& directory, const MemoryOptions& options);
MemoryOptions read_memory_options(const std::string& directory);

}  // namespace serval
