// Runs a program in a test: arena and states of its own, every byte poisoned before the first run, values in
// and out as doubles. With a scattered arena no two tensors share memory, so each can be read after the run.
//
//   ProgramRunner runner(program, ArenaKind::scattered);
//   runner.set("x", values);
//   runner.run();
//   std::vector<double> y = runner.get(y_id);
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plan/arena.h"
#include "program/op.h"
#include "run/executor.h"
#include "run/state_store.h"
#include "tensor/device.h"

namespace serval::testing {

// A byte of NaN in every floating-point type, and of -1 in integers.
constexpr unsigned char kPoison = 0xff;

enum class ArenaKind { packed, scattered };

// Every tensor and workspace at an offset of its own, with a gap after each.
inline ArenaPlan scattered_plan(const Program& program) {
  ArenaPlan plan;
  plan.offsets.assign(program.tensors.size(), -1);
  plan.workspace_offsets.assign(program.calls.size(), -1);
  const auto take = [&](int64_t bytes, bool host = false) {
    int64_t& end = host ? plan.host_bytes : plan.bytes;
    const int64_t offset = end;
    end += (bytes + 2 * kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    return offset;
  };
  for (size_t id = 0; id < program.tensors.size(); ++id)
    if (program.tensors[id].kind != TensorKind::state && program.tensors[id].base == kNone)
      plan.offsets[id] = take(program.tensors[id].span_bytes(), program.tensors[id].host);
  for (size_t c = 0; c < program.calls.size(); ++c)
    if (const int64_t bytes = workspace_of(CallView{program, program.calls[c]}); bytes > 0)
      plan.workspace_offsets[c] = take(bytes);
  return plan;
}

inline std::vector<char> to_bytes(const std::vector<double>& values, DType dtype) {
  std::vector<char> bytes(values.size() * static_cast<size_t>(size_of(dtype)));
  for (size_t i = 0; i < values.size(); ++i) {
    char* at = bytes.data() + i * static_cast<size_t>(size_of(dtype));
    if (dtype == DType::i32) {
      const auto value = static_cast<int32_t>(values[i]);
      std::memcpy(at, &value, sizeof value);
    } else if (dtype == DType::i64) {
      const auto value = static_cast<int64_t>(values[i]);
      std::memcpy(at, &value, sizeof value);
    } else if (dtype == DType::u8) {
      const auto value = static_cast<uint8_t>(values[i]);
      std::memcpy(at, &value, sizeof value);
    } else {
      convert_elements(&values[i], DType::f64, at, dtype, 1);
    }
  }
  return bytes;
}

inline std::vector<double> from_bytes(const char* bytes, DType dtype, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const char* at = bytes + i * size_of(dtype);
    double& value = values[static_cast<size_t>(i)];
    if (dtype == DType::i32) {
      int32_t integer = 0;
      std::memcpy(&integer, at, sizeof integer);
      value = integer;
    } else if (dtype == DType::i64) {
      int64_t integer = 0;
      std::memcpy(&integer, at, sizeof integer);
      value = static_cast<double>(integer);
    } else if (dtype == DType::u8) {
      value = static_cast<unsigned char>(*at);
    } else {
      convert_elements(at, dtype, &value, DType::f64, 1);
    }
  }
  return values;
}

class ProgramRunner {
 public:
  ProgramRunner(Program program, ArenaKind kind, std::shared_ptr<Device> device = make_cpu_device())
      : ProgramRunner(program, kind == ArenaKind::packed ? plan_arena(program) : scattered_plan(program),
                      std::move(device)) {}
  ProgramRunner(Program program, ArenaPlan plan, std::shared_ptr<Device> device = make_cpu_device())
      : device_(std::move(device)), states_(*device_) {
    states_.declare(program);
    states_.allocate();
    arena_ = Buffer(*device_, plan.bytes);
    const std::vector<unsigned char> poison(static_cast<size_t>(plan.bytes), kPoison);
    device_->copy_from_host(arena_.data(), poison.data(), plan.bytes);
    if (plan.host_bytes > 0) {
      host_ = Buffer::in_host(*device_, plan.host_bytes);
      std::memset(host_.data(), kPoison, static_cast<size_t>(plan.host_bytes));
    }
    executor_ =
        std::make_unique<Executor>(std::move(program), std::move(plan), arena_.data(), states_, host_.data());
  }

  Executor& executor() { return *executor_; }
  StateStore& states() { return states_; }
  const Program& program() const { return executor_->program(); }
  void run() { executor_->run(); }

  // Writes the tensor's first rows: an input, or a state.
  void set(TensorId id, const std::vector<double>& values) {
    const TensorDecl& decl = program().tensor(id);
    const auto bytes = to_bytes(values, decl.dtype);
    const Operand o = executor_->operand(id);
    const int64_t row_bytes = decl.shape.row_size() * size_of(decl.dtype);
    for (int64_t row = 0; row * row_bytes < static_cast<int64_t>(bytes.size()); ++row)
      device_->copy_from_host(static_cast<char*>(o.data) + row * o.row_stride * size_of(o.dtype),
                              bytes.data() + row * row_bytes, row_bytes);
  }
  void set(const std::string& name, const std::vector<double>& values) { set(program().find(name), values); }

  // The valid rows.
  std::vector<double> get(TensorId id) const {
    const Operand o = executor_->operand(id);
    const auto bytes = raw(id);
    return from_bytes(bytes.data(), o.dtype, o.rows * o.row_size);
  }
  std::vector<double> get(const std::string& name) const { return get(program().find(name)); }
  std::vector<char> raw(TensorId id) const {
    const Operand o = executor_->operand(id);
    const int64_t row_bytes = o.row_size * size_of(o.dtype);
    std::vector<char> bytes(static_cast<size_t>(o.rows * row_bytes));
    for (int64_t row = 0; row < o.rows; ++row)
      device_->copy_to_host(bytes.data() + row * row_bytes,
                            static_cast<char*>(o.data) + row * o.row_stride * size_of(o.dtype), row_bytes);
    return bytes;
  }

  std::vector<char> arena_bytes() const {
    std::vector<char> bytes(static_cast<size_t>(arena_.bytes()));
    device_->copy_to_host(bytes.data(), arena_.data(), arena_.bytes());
    return bytes;
  }

 private:
  std::shared_ptr<Device> device_;
  Buffer arena_, host_;
  StateStore states_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace serval::testing
