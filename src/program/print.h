// The printed form of a program: a line an op, with shapes, bytes and FLOPs; identical layers are printed
// once.
#pragma once
#include <string>

#include "program/program.h"

namespace serval {

// layers.0.mlp.down_proj   linear   [1024, 3072] bf16 -> [1024, 1024] bf16   rank=16   6.0 MiB   6.44 G
std::string print_program(const Program& program);

}  // namespace serval
