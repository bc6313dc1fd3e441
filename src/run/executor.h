// Runs a program on the device of its states: binds each operand to its place in the arena or among the
// states once, then calls the kernels in order, or starts the graph that was captured from them. The work of
// a `start` runs on a side stream, beside what follows until its `wait`.
//
//   Executor step(program, plan_arena(program), arena.data(), states);
//   step.set_input("input_ids", ids);          // at most the capacity
//   step.run();                                // on a GPU it returns before the work is done
//   step.capture();                            // from now on run() is one call of the driver
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/cuda_kernels.h"
#include "plan/arena.h"
#include "program/op.h"
#include "run/state_store.h"

namespace serval {

struct OpTime {
  std::string op;
  int64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0;
};

class Executor {
 public:
  // `arena` holds plan.bytes, `host_arena` plan.host_bytes of pinned memory; they may be shared with other
  // executors that never run at the same time.
  Executor(Program program, ArenaPlan plan, void* arena, StateStore& states, void* host_arena = nullptr);
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  const Program& program() const { return program_; }
  const ArenaPlan& plan() const { return plan_; }

  template <class T>
  void set_input(std::string_view name, std::span<const T> values) {
    write_input(name, values.data(), static_cast<int64_t>(values.size()), sizeof(T));
  }
  template <class T>
  void set_input(std::string_view name, const std::vector<T>& values) {
    set_input(name, std::span<const T>(values));
  }

  void run();
  // Records the program as a graph where the device has graphs. Each program must have run once before, so
  // that libraries are loaded and algorithms chosen. Bits are those of running entry by entry.
  void capture();
  bool captured() const { return graph_ != nullptr; }
  // After each call, look for NaN and Inf in what it wrote; the first one ends the run with a UserError that
  // names the op, the call and the tensor.
  void set_check_nan(bool on) { check_nan_ = on; }
  // Measure each call (entry by entry, a little slower); times() sums them by op.
  void set_profile(bool on) { profile_ = on; }
  std::vector<OpTime> times() const;

  // For tests: work of a start is done at its wait, as late as an asynchronous device may do it.
  void set_late_starts(bool on) { late_starts_ = on; }
  // For tests: the memory of a tensor right after the call that is given to `observe`.
  Operand operand(TensorId id) const;
  void set_observer(std::function<void(const OpCall&, const Executor&)> observe) {
    observe_ = std::move(observe);
  }

 private:
  struct Bound {
    CudaKernel cuda_kernel = nullptr;
    std::vector<Operand> operands;  // inputs, outputs, updates
    struct Count {
      size_t operand;
      const int32_t* value;
      int64_t capacity;
    };
    std::vector<Count> counts;  // operands whose rows a count gives
    KernelContext context;
  };
  void bind(size_t call_index);
  void write_input(std::string_view name, const void* values, int64_t count, size_t element_size);
  void run_entries();
  void run_call(size_t index, void* stream);
  void check_finite(const OpCall& call) const;
  const void* address(TensorId id) const;
  int32_t read_count(TensorId count) const;

  Program program_;
  ArenaPlan plan_;
  void *arena_, *host_arena_;
  StateStore& states_;
  std::vector<int> side_;  // by call: the side stream of a start and of its wait
  std::vector<Bound> bound_;
  std::vector<double> seconds_;
  std::vector<int64_t> runs_;
  std::unique_ptr<DeviceGraph> graph_;
  bool check_nan_ = false, profile_ = false, late_starts_ = false;
  std::function<void(const OpCall&, const Executor&)> observe_;
};

}  // namespace serval
