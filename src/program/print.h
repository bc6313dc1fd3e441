// The printed form of a program: a line an op, with shapes, bytes and FLOPs; identical layers are printed
// once.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "program/program.h"

namespace serval {

// The number after "layers." in the name of a call or tensor, if any.
std::optional<int64_t> layer_of(const std::string& name);
// What follows that number: "mlp.act_fn" of "model.layers.3.mlp.act_fn". The whole name where there is none.
std::string name_within_layer(const std::string& name);

// layers.0.mlp.down_proj   linear   [1024, 3072] bf16 -> [1024, 1024] bf16   rank=16   6.0 MiB   6.44 G
std::string print_program(const Program& program);

}  // namespace serval
