// Layer inputs in host memory: each block's kept input (TensorDecl::keep) is copied to pinned host memory as
// soon as it is written, leaves the arena after its last forward use, and is fetched again while the block
// behind it is differentiated. Copies are pairs of start and wait, one layer apart, so they run beside the
// layers' work. The last block's input stays: backward begins with it.
//
//   program = offload_block_inputs(recompute(whole, drop_all_but_block_inputs(whole)));
#pragma once
#include "program/program.h"

namespace serval {

// After recompute(), before add_side_columns(). Bits do not change.
Program offload_block_inputs(const Program& program);

}  // namespace serval
