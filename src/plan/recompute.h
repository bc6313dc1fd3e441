// Recompute: a forward tensor that backward reads is dropped after its last forward use and computed again,
// by the same calls on the same operands, just before backward needs it. Not one bit changes.
//
//   Program lean = recompute(program, drop_cheap(program));  // norms, rotations, activations
//   Program leanest = recompute(program, drop_all_but_block_inputs(program));
#pragma once
#include <string>
#include <vector>

#include "program/program.h"

namespace serval {

// By tensor: true where backward shall not keep it.
using DropList = std::vector<bool>;

DropList drop_cheap(const Program& program);
// Gradient checkpointing. An output so small beside the others of its call that the call is not worth
// repeating for it is kept too.
DropList drop_all_but_block_inputs(const Program& program);
// drop_cheap plus the outputs of the forward calls of the listed ops.
DropList drop_ops(const Program& program, const std::vector<std::string>& op_names);

Program recompute(const Program& program, const DropList& drop);

}  // namespace serval
