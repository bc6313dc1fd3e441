#include "program/program.h"

#include "base/error.h"
#include "base/text.h"
#include "program/op.h"

namespace serval {

const char* name_of(Role role) {
  static constexpr const char* names[] = {"inputs",   "weights",  "adapter",     "gradients", "optimizer",
                                          "KV cache", "counters", "activations", "workspace"};
  return names[static_cast<int>(role)];
}

int64_t TensorDecl::span_bytes() const {
  if (shape.elements() == 0) return 0;
  return ((shape.rows() - 1) * row_stride + shape.row_size()) * size_of(dtype);
}

TensorId Program::find(std::string_view tensor_name) const {
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].name == tensor_name) return static_cast<TensorId>(i);
  return kNone;
}

namespace {
TensorId add(Program& program, TensorDecl decl) {
  if (decl.row_stride == 0) decl.row_stride = decl.shape.row_size();
  program.tensors.push_back(std::move(decl));
  return static_cast<TensorId>(program.tensors.size() - 1);
}
}  // namespace

TensorId ProgramBuilder::input(std::string name, DType dtype, Shape shape, TensorId count) {
  return add(program_, {.name = std::move(name),
                        .dtype = dtype,
                        .shape = shape,
                        .kind = TensorKind::input,
                        .role = Role::input,
                        .count = count});
}

TensorId ProgramBuilder::state(std::string name, DType dtype, Shape shape, Role role) {
  if (const TensorId old = program_.find(name); old != kNone) {
    SERVAL_CHECK(program_.tensor(old).shape == shape && program_.tensor(old).dtype == dtype, "state '{}'",
                 name);
    return old;
  }
  return add(
      program_,
      {.name = std::move(name), .dtype = dtype, .shape = shape, .kind = TensorKind::state, .role = role});
}

TensorId ProgramBuilder::temporary(std::string name, DType dtype, Shape shape, TensorId count, Role role) {
  return add(program_,
             {.name = std::move(name), .dtype = dtype, .shape = shape, .role = role, .count = count});
}

TensorId ProgramBuilder::columns(TensorId id, int64_t begin, int64_t size) {
  TensorDecl view = tensor(id);
  SERVAL_CHECK(begin >= 0 && size > 0 && begin + size <= view.shape.row_size(), "columns of '{}'", view.name);
  if (begin == 0 && size == view.shape.row_size()) return id;
  const TensorId root = program_.root(id);
  view.name += fmt::format("[:, {}:{}]", begin, begin + size);
  view.shape = {view.shape.rows(), size};
  view.offset += begin;
  view.base = root;
  return add(program_, std::move(view));
}

TensorId ProgramBuilder::rows(TensorId id, int64_t begin, int64_t size) {
  TensorDecl view = tensor(id);
  SERVAL_CHECK(begin >= 0 && size > 0 && begin + size <= view.shape.rows(), "rows of '{}'", view.name);
  if (begin == 0 && size == view.shape.rows()) return id;
  const TensorId root = program_.root(id);
  view.name += fmt::format("[{}:{}]", begin, begin + size);
  view.shape = view.shape.rank() == 1 ? Shape{size} : Shape{size, view.shape.row_size()};
  view.offset += begin * view.row_stride;
  view.base = root;
  view.count = kNone;
  return add(program_, std::move(view));
}

TensorId ProgramBuilder::region(TensorId storage, const std::string& name, Shape shape, int64_t offset,
                                Role role) {
  if (const TensorId old = program_.find(name); old != kNone) return old;
  const TensorDecl& whole = tensor(storage);
  SERVAL_CHECK(whole.kind == TensorKind::state && whole.base == kNone &&
                   offset % whole.row_stride + shape.row_size() <= whole.row_stride,
               "region '{}'", name);
  return add(program_, {.name = name,
                        .dtype = whole.dtype,
                        .shape = shape,
                        .row_stride = whole.row_stride,
                        .kind = TensorKind::state,
                        .role = role,
                        .base = storage,
                        .offset = offset,
                        .named = true});
}

TensorId ProgramBuilder::same_view(TensorId id, TensorId target) {
  if (tensor(id).base == kNone) return target;
  const TensorDecl& root = tensor(program_.root(id));
  TensorDecl view = tensor(id);
  const TensorDecl& goal = tensor(target);
  SERVAL_CHECK(goal.shape == root.shape && goal.base == kNone);
  const int64_t row = view.offset / root.row_stride, column = view.offset % root.row_stride;
  view.name = fmt::format("{}[{}:{}, {}:{}]", goal.name, row, row + view.shape.rows(), column,
                          column + view.shape.row_size());
  view.dtype = goal.dtype;
  view.row_stride = goal.row_stride;
  view.offset = row * goal.row_stride + column;
  view.base = target;
  view.kind = goal.kind;
  view.role = goal.role;
  view.keep = false;
  return add(program_, std::move(view));
}

std::vector<TensorId> ProgramBuilder::call(const Op& op, std::string name, std::vector<TensorId> inputs,
                                           Attributes attributes, std::vector<TensorId> updates,
                                           std::vector<TensorId> outputs) {
  OpCall entry{.op = &op,
               .name = std::move(name),
               .inputs = std::move(inputs),
               .outputs = {},
               .updates = std::move(updates),
               .attributes = std::move(attributes),
               .phase = phase_};
  const auto specs = op.infer(CallView{program_, entry});
  SERVAL_CHECK(outputs.empty() || outputs.size() == specs.size(), "op {} of '{}'", op.name, entry.name);
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto& spec = specs[i];
    TensorId id = outputs.empty() ? kNone : outputs[i];
    if (spec.absent) {
      SERVAL_CHECK(id == kNone);
    } else if (id == kNone) {
      id = temporary(entry.name + spec.suffix, spec.dtype, spec.shape, spec.count,
                     phase_ == Phase::backward ? Role::gradient : Role::activation);
    } else {
      const TensorDecl& given = tensor(id);
      SERVAL_CHECK(given.dtype == spec.dtype && given.shape.rows() == spec.shape.rows() &&
                       given.shape.row_size() == spec.shape.row_size(),
                   "output {} of op {} of '{}' is {}, expected {}", i, op.name, entry.name,
                   to_string(given.shape), to_string(spec.shape));
    }
    entry.outputs.push_back(id);
  }
  program_.calls.push_back(std::move(entry));
  return program_.calls.back().outputs;
}

std::string ProgramBuilder::scoped(std::string_view name) const {
  std::string full;
  for (const auto& scope : scopes_) full += scope + '.';
  return full += name;
}
void ProgramBuilder::push_scope(std::string_view name) {
  scopes_.emplace_back(name);
}
void ProgramBuilder::pop_scope() {
  scopes_.pop_back();
}

Cost cost_of(const CallView& view) {
  if (view.call.entry == EntryKind::wait) return {};
  if (view.call.op->cost != nullptr) return view.call.op->cost(view);
  Cost cost;
  for_each_operand(view.call, [&](TensorId id) {
    const auto& decl = view.program.tensor(id);
    cost.bytes += static_cast<double>(decl.shape.elements() * size_of(decl.dtype));
  });
  for (const TensorId id : view.call.updates)
    if (id != kNone)
      cost.bytes += static_cast<double>(view.program.tensor(id).shape.elements() *
                                        size_of(view.program.tensor(id).dtype));
  return cost;
}

int64_t workspace_of(const CallView& view) {
  if (view.call.entry == EntryKind::wait) return 0;
  const Op& op = *view.call.op;
  const bool on_gpu = view.program.device == DeviceKind::cuda;
  const auto rule = on_gpu && op.cuda_workspace != nullptr ? op.cuda_workspace : op.workspace;
  return rule == nullptr ? 0 : rule(view);
}

}  // namespace serval
