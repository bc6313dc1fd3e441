// What an op's derivative rule sees: the forward call, the gradients of its outputs, and where the gradients
// of its inputs go. src/plan/differentiate.cc implements it.
//
//   void derive(DeriveContext& c) {
//     const TensorId dx = c.gradient_slot(0);            // kNone where nobody needs it
//     c.builder().call(backward_op, c.call().name, {c.output_gradient(0), x}, attributes,
//                      {c.parameter_gradient(1)}, {dx});
//   }
#pragma once
#include <functional>

#include "program/program.h"

namespace serval {

class DeriveContext {
 public:
  virtual ~DeriveContext() = default;
  virtual ProgramBuilder& builder() = 0;
  virtual const OpCall& call() const = 0;
  // Gradient of output i; kNone where the loss does not depend on it.
  virtual TensorId output_gradient(size_t i) = 0;
  // Whether the gradient of this (non-parameter) input is needed.
  virtual bool wants(size_t input) const = 0;
  // The accumulator (a state) of a trained parameter; kNone for a frozen one.
  virtual TensorId parameter_gradient(size_t input) const = 0;
  // A tensor, perhaps a view into a wider one, that the rule must write whole: the gradient of this input, or
  // one contribution to it. kNone where it is not wanted. Call it once an input.
  virtual TensorId gradient_slot(size_t input) = 0;
  // Runs `work` after the rule of the call before this one: what only adds to parameter gradients can wait
  // until then, and finds its forward operand as a by-product of that rule's calls.
  virtual void defer(std::function<void()> work) = 0;
  // Hands over a tensor that exists already as the gradient of this input.
  virtual void give(size_t input, TensorId gradient) = 0;
};

}  // namespace serval
