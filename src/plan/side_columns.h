// Some ops want a few columns of their own beside the rows of an input: a linear layer with adapters writes
// x A^T beside x, so that [x | x A^T] [W | B]^T is one product. This pass widens the temporaries that such
// calls read and gives the calls the new columns as an output; then tensors whose rows had better be as far
// apart as others' are widened too. Nothing else of the program changes.
//
//   program = add_side_columns(std::move(program));        // last, before the arena is planned
#pragma once
#include "program/program.h"

namespace serval {

// A tensor that is no temporary, or is cut into views by the call itself, or has side columns already, is
// left as it is: the call then computes the same without them. A repeated call shares the columns of the
// first one.
Program add_side_columns(Program program);

}  // namespace serval
