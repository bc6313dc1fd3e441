#include "plan/side_columns.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "program/op.h"

namespace serval {
namespace {

std::vector<bool> read_tensors(const Program& program) {
  std::vector<bool> read(program.tensors.size(), false);
  for (const OpCall& call : program.calls)
    for (const auto* list : {&call.inputs, &call.updates})
      for (const TensorId id : *list)
        if (id != kNone) read[static_cast<size_t>(id)] = read[static_cast<size_t>(program.root(id))] = true;
  return read;
}

// The tensor and its views become views of a new tensor with more columns; returns the new columns.
TensorId widen(Program& program, TensorId id, int64_t columns) {
  const TensorDecl old = program.tensor(id);
  const int64_t size = old.shape.row_size(), stride = size + columns;
  TensorDecl wide = old;
  wide.name += "+side";
  wide.shape = {old.shape.rows(), stride};
  wide.row_stride = stride;
  wide.keep = false;
  program.tensors.push_back(wide);
  const auto root = static_cast<TensorId>(program.tensors.size() - 1);
  for (TensorId i = 0; i < root; ++i) {
    TensorDecl& decl = program.tensor(i);
    if (i != id && decl.base != id) continue;
    decl.offset = decl.offset / old.row_stride * stride + decl.offset % old.row_stride;
    decl.row_stride = stride;
    decl.base = root;
  }
  TensorDecl side = wide;
  side.name = old.name + ".side";
  side.shape = {old.shape.rows(), columns};
  side.base = root;
  side.offset = size;
  program.tensors.push_back(std::move(side));
  return static_cast<TensorId>(program.tensors.size() - 1);
}

bool may_widen(const TensorDecl& decl) {
  return decl.kind == TensorKind::temporary && decl.base == kNone;
}

void give_side_columns(Program& program) {
  const std::vector<bool> read = read_tensors(program);
  // The columns of each widened tensor, and the call that has them: where that call is repeated on a tensor
  // that was kept, it writes the same into them.
  std::map<TensorId, std::pair<std::string, TensorId>> given;
  for (OpCall& call : program.calls) {
    if (call.op->side_columns == nullptr) continue;
    const SideColumns side = call.op->side_columns(CallView{program, call});
    if (side.columns == 0) continue;
    const TensorId id = call.inputs[side.input];
    const auto earlier = given.find(id);
    if (earlier != given.end() && earlier->second.first == call.name && !side.alias) {
      call.outputs[side.output] = earlier->second.second;
    } else {
      if (!may_widen(program.tensor(id))) continue;
      call.outputs[side.output] = widen(program, id, side.columns);
      given[id] = {call.name, call.outputs[side.output]};
    }
    TensorId& copy = call.outputs[side.copy];
    if (side.alias && copy != kNone) {
      const TensorDecl columns = program.tensor(call.outputs[side.output]);
      TensorDecl& same = program.tensor(copy);
      same.base = columns.base;
      same.offset = columns.offset;
      same.row_stride = columns.row_stride;
      continue;
    }
    if (copy != kNone && side.copy != side.output && static_cast<size_t>(copy) < read.size() &&
        !read[static_cast<size_t>(copy)])
      copy = kNone;
  }
}

void align_rows(Program& program) {
  for (const OpCall& call : program.calls) {
    if (call.op->alike_rows == nullptr) continue;
    const AlikeRows rows = call.op->alike_rows(CallView{program, call});
    if (rows.given == rows.follows) continue;
    const TensorId id = call.inputs[rows.follows];
    const int64_t missing =
        program.tensor(call.inputs[rows.given]).row_stride - program.tensor(id).row_stride;
    if (missing > 0 && may_widen(program.tensor(id))) widen(program, id, missing);
  }
}

}  // namespace

Program add_side_columns(Program program) {
  give_side_columns(program);
  align_rows(program);
  return program;
}

}  // namespace serval
