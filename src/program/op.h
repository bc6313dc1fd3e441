// The descriptor of an op: all that the passes and the executor need to know of it. src/ops holds one folder
// an op and the table of all of them; nothing on this floor names one.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "program/kernel_context.h"
#include "program/program.h"

namespace serval {

class DeriveContext;

// One call with the declarations of its operands.
struct CallView {
  const Program& program;
  const OpCall& call;
  bool has_input(size_t i) const { return i < call.inputs.size() && call.inputs[i] != kNone; }
  bool has_update(size_t i) const { return i < call.updates.size() && call.updates[i] != kNone; }
  bool has_output(size_t i) const { return i < call.outputs.size() && call.outputs[i] != kNone; }
  const TensorDecl& input(size_t i) const { return program.tensor(call.inputs[i]); }
  const TensorDecl& output(size_t i) const { return program.tensor(call.outputs[i]); }
  const TensorDecl& update(size_t i) const { return program.tensor(call.updates[i]); }
  const Attributes& attributes() const { return call.attributes; }
};

// What the shape rule says of an output.
struct OutputSpec {
  DType dtype = DType::f32;
  Shape shape;
  TensorId count = kNone;
  const char* suffix = "";  // of the temporary's name
  bool absent = false;      // this output is not computed in this call
};

// Floating-point operations and bytes read and written once each, at capacity.
struct Cost {
  double flops = 0;
  double bytes = 0;
};

// Columns that a call would like to write beside the rows of one of its inputs (see plan/side_columns.h).
struct SideColumns {
  int64_t columns = 0;  // 0: none
  size_t input = 0;
  size_t output = 0;  // which then is a view of them; absent in a call that did not get them
  // An output that holds the same. It becomes a view of the columns (alias), or is dropped where nobody reads
  // it: a tensor that is kept for backward must not keep the wide one alive.
  size_t copy = 0;
  bool alias = false;
};

// Two inputs of a call whose rows had better be equally far apart.
struct AlikeRows {
  size_t given = 0, follows = 0;  // the second one is widened to the first one's stride; equal: none
};

struct Op {
  std::string_view name;
  // Checks the operands (SERVAL_CHECK: a wrong shape here is a bug of a model file) and describes the
  // outputs.
  std::vector<OutputSpec> (*infer)(const CallView&) = nullptr;
  // nullptr: bytes of all operands, no FLOPs.
  Cost (*cost)(const CallView&) = nullptr;
  // Appends the calls that compute the gradients; nullptr: the op has none.
  void (*derive)(DeriveContext&) = nullptr;
  // Bit i: output i is so cheap to compute again (norms, rotations, activations) that backward never keeps
  // it.
  uint32_t cheap_outputs = 0;
  // The op starts the backward pass by itself: it is a loss.
  bool is_loss = false;
  // Appends a shorter way to output `index` that reads other outputs of the call (kNone where they are not
  // kept) and returns the tensor; or returns kNone to have the call itself repeated.
  TensorId (*recompute)(ProgramBuilder&, const OpCall&, size_t index) = nullptr;
  // Scratch bytes of one call; nullptr: none.
  int64_t (*workspace)(const CallView&) = nullptr;
  // The same on a GPU; nullptr: as on the CPU.
  int64_t (*cuda_workspace)(const CallView&) = nullptr;
  SideColumns (*side_columns)(const CallView&) = nullptr;
  AlikeRows (*alike_rows)(const CallView&) = nullptr;
  // The op of the derivative can also give output 0 of this op again, as its output `byproduct`.
  const Op* backward = nullptr;
  size_t byproduct = 0;
  void (*run_cpu)(const KernelContext&) = nullptr;
};

Cost cost_of(const CallView& view);
int64_t workspace_of(const CallView& view);  // scratch bytes on the program's device

}  // namespace serval
