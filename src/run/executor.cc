#include "run/executor.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>

#include "base/error.h"
#include "plan/streams.h"

namespace serval {

Executor::Executor(Program program, ArenaPlan plan, void* arena, StateStore& states, void* host_arena)
    : program_(std::move(program)),
      plan_(std::move(plan)),
      arena_(arena),
      host_arena_(host_arena),
      states_(states),
      side_(assign_streams(program_)) {
  SERVAL_CHECK(plan_.host_bytes == 0 || host_arena != nullptr, "program '{}'", program_.name);
  SERVAL_CHECK(program_.device == states_.device().kind(), "program '{}'", program_.name);
  bound_.resize(program_.calls.size());
  seconds_.assign(program_.calls.size(), 0);
  runs_.assign(program_.calls.size(), 0);
  for (size_t i = 0; i < program_.calls.size(); ++i) bind(i);
}

const void* Executor::address(TensorId id) const {
  const TensorDecl& decl = program_.tensor(id);
  const TensorId root = program_.root(id);
  const TensorDecl& whole = program_.tensor(root);
  const char* base = nullptr;
  if (whole.kind == TensorKind::state) {
    base = static_cast<const char*>(states_.data(whole.name));
  } else {
    const int64_t offset = plan_.offsets[static_cast<size_t>(root)];
    if (offset < 0) return nullptr;
    base = static_cast<const char*>(whole.host ? host_arena_ : arena_) + offset;
  }
  return base + decl.offset * size_of(decl.dtype);
}

int32_t Executor::read_count(TensorId count) const {
  int32_t value = 0;
  states_.device().copy_to_host(&value, address(count), sizeof value);
  return value;
}

Operand Executor::operand(TensorId id) const {
  const TensorDecl& decl = program_.tensor(id);
  Operand result{const_cast<void*>(address(id)), decl.dtype, decl.row_stride, decl.shape.rows(),
                 decl.shape.row_size()};
  if (decl.count != kNone) result.rows = std::clamp<int64_t>(read_count(decl.count), 0, result.rows);
  return result;
}

void Executor::bind(size_t call_index) {
  const OpCall& call = program_.calls[call_index];
  Bound& bound = bound_[call_index];
  const auto append = [&](TensorId id) {
    if (id == kNone) {
      bound.operands.emplace_back();
      return;
    }
    const TensorDecl& decl = program_.tensor(id);
    bound.operands.push_back({const_cast<void*>(address(id)), decl.dtype, decl.row_stride, decl.shape.rows(),
                              decl.shape.row_size()});
    if (decl.count == kNone) return;
    const auto* count = static_cast<const int32_t*>(address(decl.count));
    if (program_.device == DeviceKind::cpu)
      bound.counts.push_back({bound.operands.size() - 1, count, decl.shape.rows()});
    else
      bound.operands.back().count = count;
  };
  for (const auto* list : {&call.inputs, &call.outputs, &call.updates})
    for (const TensorId id : *list) append(id);
  if (program_.device == DeviceKind::cuda) {
    bound.cuda_kernel = find_cuda_kernel(call.op->name);
    SERVAL_CHECK(bound.cuda_kernel != nullptr, "op '{}' has no CUDA kernel", call.op->name);
  }
  KernelContext& context = bound.context;
  context.num_inputs = static_cast<int>(call.inputs.size());
  context.num_outputs = static_cast<int>(call.outputs.size());
  context.num_updates = static_cast<int>(call.updates.size());
  context.inputs = bound.operands.data();
  context.outputs = context.inputs + context.num_inputs;
  context.updates = context.outputs + context.num_outputs;
  context.attributes = &call.attributes;
  context.name = call.name.c_str();
  if (const int64_t offset = plan_.workspace_offsets[call_index]; offset >= 0)
    context.workspace = static_cast<char*>(arena_) + offset;
}

void Executor::write_input(std::string_view name, const void* values, int64_t count, size_t element_size) {
  const TensorId id = program_.find(name);
  SERVAL_CHECK(id != kNone && program_.tensor(id).kind == TensorKind::input, "no input '{}'", name);
  const TensorDecl& decl = program_.tensor(id);
  SERVAL_CHECK(static_cast<int64_t>(element_size) == size_of(decl.dtype) && count <= decl.shape.elements(),
               "input '{}' takes {} elements, got {}", name, decl.shape.elements(), count);
  if (count > 0 && address(id) != nullptr)
    states_.device().copy_from_host(const_cast<void*>(address(id)), values,
                                    count * static_cast<int64_t>(element_size));
}

void Executor::run() {
  if (graph_ != nullptr && !check_nan_ && !profile_ && !observe_ && !late_starts_)
    graph_->launch();
  else
    run_entries();
}

void Executor::capture() {
  Device& device = states_.device();
  if (device.has_graphs()) graph_ = device.capture([this] { run_entries(); });
}

void Executor::run_call(size_t index, void* stream) {
  const OpCall& call = program_.calls[index];
  Bound& bound = bound_[index];
  for (const auto& count : bound.counts)
    bound.operands[count.operand].rows = std::clamp<int64_t>(*count.value, 0, count.capacity);
  if (bound.cuda_kernel != nullptr)
    bound.cuda_kernel(bound.context, stream);
  else
    call.op->run_cpu(bound.context);
  if (check_nan_) check_finite(call);
  if (observe_) observe_(call, *this);
}

void Executor::run_entries() {
  Device& device = states_.device();
  // Whoever looks at single calls has each of them done before the next.
  const bool beside = !check_nan_ && !profile_ && !observe_ && !late_starts_;
  std::vector<int64_t> marks;
  if (profile_) marks.push_back(device.mark());
  for (size_t i = 0; i < bound_.size(); ++i) {
    const OpCall& call = program_.calls[i];
    if (call.entry == EntryKind::call)
      run_call(i, device.stream());
    else if (beside && call.entry == EntryKind::start)
      run_call(i, device.fork(side_[i]));
    else if (beside)
      device.join(side_[i]);
    else if (late_starts_ == (call.entry == EntryKind::wait))
      run_call(late_starts_ ? static_cast<size_t>(call.pair) : i, device.stream());
    if (profile_) marks.push_back(device.mark());
  }
  if (!profile_) return;
  for (size_t i = 0; i < bound_.size(); ++i) {
    seconds_[i] += device.seconds(marks[i], marks[i + 1]);
    ++runs_[i];
  }
  device.clear_marks();
}

namespace {

// Row of the first value that is not finite, or -1.
int64_t first_bad_row(const Operand& o) {
  for (int64_t row = 0; row < o.rows; ++row) {
    for (int64_t i = 0; i < o.row_size; ++i) {
      double value = 0;
      if (o.dtype == DType::f64)
        value = o.row<double>(row)[i];
      else if (o.dtype == DType::f32)
        value = static_cast<double>(o.row<float>(row)[i]);
      else if (o.dtype == DType::bf16)
        value = static_cast<double>(static_cast<float>(o.row<BFloat16>(row)[i]));
      else
        return -1;
      if (!std::isfinite(value)) return row;
    }
  }
  return -1;
}

}  // namespace

void Executor::check_finite(const OpCall& call) const {
  Device& device = states_.device();
  const auto check = [&](TensorId id) {
    // What lies in host memory is a copy of what has been checked.
    if (id == kNone || program_.tensor(id).host) return;
    Operand o = operand(id);
    if (!o || o.rows == 0) return;
    std::vector<std::byte> copy;
    if (device.kind() != DeviceKind::cpu) {
      copy.resize(static_cast<size_t>(((o.rows - 1) * o.row_stride + o.row_size) * size_of(o.dtype)));
      device.copy_to_host(copy.data(), o.data, static_cast<int64_t>(copy.size()));
      o.data = copy.data();
    }
    const int64_t row = first_bad_row(o);
    if (row < 0) return;
    static constexpr const char* phases[] = {"forward", "backward", "update"};
    fail("check_nan: the first NaN or Inf appeared in the {} of '{}' (op {}), in row {} of the tensor '{}'",
         phases[static_cast<int>(call.phase)], call.name, call.op->name, row, program_.tensor(id).name);
  };
  for (const TensorId id : call.outputs) check(id);
  for (const TensorId id : call.updates) check(id);
}

std::vector<OpTime> Executor::times() const {
  std::map<std::string, OpTime> by_op;
  for (size_t i = 0; i < program_.calls.size(); ++i) {
    const OpCall& call = program_.calls[i];
    OpTime& time = by_op[std::string(call.op->name)];
    const Cost cost = cost_of(CallView{program_, call});
    time.op = call.op->name;
    time.calls += runs_[i];
    time.seconds += seconds_[i];
    time.flops += cost.flops * static_cast<double>(runs_[i]);
    time.bytes += cost.bytes * static_cast<double>(runs_[i]);
  }
  std::vector<OpTime> result;
  for (auto& [name, time] : by_op) result.push_back(time);
  std::sort(result.begin(), result.end(),
            [](const OpTime& a, const OpTime& b) { return a.seconds > b.seconds; });
  return result;
}

}  // namespace serval
