// Which tensors backward shall compute again so that a program's arena keeps to a budget, at the least extra
// time. Between keeping everything but norms, rotations and activations (drop_cheap) and keeping each block's
// input alone (drop_all_but_block_inputs) each call of a layer is a choice of its own: what it gives is kept,
// or the call is repeated. Whatever is chosen, not one bit of a result changes.
//
//   const RecomputeChoice choice = fit_recompute(program, budget, nominal_rates(program.device), finish);
//   if (!choice.fits) ...                                // not even the leanest one does
//   program = finish(recompute(program, drop_list(program, choice)));
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "plan/recompute.h"

namespace serval {

// What the time of a call is estimated from: the larger of FLOPs and bytes, each over its rate.
struct DeviceRates {
  double flops_per_second = 0, bytes_per_second = 0;
};
// Typical ones. A choice must be the same each time, so nothing that is measured goes into it.
DeviceRates nominal_rates(DeviceKind device);

struct RecomputeChoice {
  bool fits = false;
  bool blocks = false;             // drop_all_but_block_inputs; `calls` is then empty
  std::vector<std::string> calls;  // forward calls that are repeated, beside what is cheap
  int64_t arena_bytes = 0;         // of the finished program
  double extra_flops = 0;          // of the calls that are repeated

  friend bool operator==(const RecomputeChoice&, const RecomputeChoice&) = default;
};

// What is done to a program between recompute() and plan_arena().
using FinishProgram = std::function<Program(Program)>;

// `program` is differentiated, and recompute() has not seen it yet. Fits whenever the leanest choice does; a
// larger budget never costs more FLOPs. Where nothing fits, the leanest choice is returned.
RecomputeChoice fit_recompute(const Program& program, int64_t budget, const DeviceRates& rates,
                              const FinishProgram& finish);

// Names in choice.calls that the program does not have are passed over.
DropList drop_list(const Program& program, const RecomputeChoice& choice);

// FLOPs of the calls that a program repeats.
double recomputed_flops(const Program& program);
// "mlp.gate_proj+up_proj in 12 of 36 layers; +4.1 % FLOPs", of a program that recompute() made. Norms,
// rotations and activations are not listed.
std::string describe_recompute(const Program& program);

}  // namespace serval
