// What a kernel is given: the operands of one call, its settings and its scratch memory. Light enough for
// device compilers.
#pragma once
#include "program/attributes.h"
#include "tensor/operand.h"

namespace serval {

// The operands of one call at run time. Kernels are compiled once per instruction set, hence plain pointers.
struct KernelContext {
  const Operand* inputs = nullptr;
  const Operand* outputs = nullptr;
  const Operand* updates = nullptr;
  int num_inputs = 0, num_outputs = 0, num_updates = 0;
  const Attributes* attributes = nullptr;
  const char* name = "";  // of the call
  void* workspace = nullptr;

  SERVAL_INLINE const Operand& input(int i) const { return i < num_inputs ? inputs[i] : kAbsentOperand; }
  SERVAL_INLINE const Operand& output(int i) const { return i < num_outputs ? outputs[i] : kAbsentOperand; }
  SERVAL_INLINE const Operand& update(int i) const { return i < num_updates ? updates[i] : kAbsentOperand; }
};

}  // namespace serval
