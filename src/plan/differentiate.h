// Differentiation: from a forward program to the program that also computes gradients. The backward calls are
// appended in reverse order; gradients of parameters are accumulated into states, in f32.
//
//   differentiate(program, {{weight, weight_gradient}, ...});      // the program holds a loss op
#pragma once
#include <span>

#include "program/program.h"

namespace serval {

struct ParameterGradient {
  TensorId parameter = kNone;  // a state
  TensorId gradient = kNone;   // a state that the backward calls add to
};

// The gradient of `tensor` is given (an input or a state), instead of coming from a loss op.
struct GradientSeed {
  TensorId tensor = kNone;
  TensorId gradient = kNone;
};

void differentiate(Program& program, std::span<const ParameterGradient> parameters,
                   std::span<const GradientSeed> seeds = {});

}  // namespace serval
