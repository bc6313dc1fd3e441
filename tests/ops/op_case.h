// What the tests of all ops share: a call and its derivative are built from values, run on every device,
// element type, instruction set and thread count, and compared with a plain f64 reference.
//
//   for_each_setting([&](const Setting& setting) {
//     OpCase c(setting);
//     const TensorId x = c.tensor("x", {capacity, 33}, values, count);   // perhaps a view into a wider one
//     const TensorId y = ops::swiglu(c.b(), "act", x);
//     c.derive({{0, dy}}, {0});                                          // output gradients; wanted inputs
//     c.run();
//     c.expect_near(y, reference, kRowTolerance);
//     c.expect_near(c.gradient(0), ...);
//   });
//
// All values are exact in bf16, so one reference serves every element type. Memory is poisoned with NaN
// before the run: an element that is read or left out although it should not be shows up in the result. After
// the run, every byte that no call may write must be what it was: rows past the count, gaps between rows,
// inputs.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/parallel.h"
#include "program/derive.h"
#include "program/program.h"
#include "support/devices.h"
#include "support/program_runner.h"
#include "support/random_values.h"

namespace serval::testing {

struct Setting {
  DeviceKind device = DeviceKind::cpu;
  DType dtype = DType::f32;
  CpuIsa isa = CpuIsa::generic;
  int threads = 1;
  bool strided = false;  // operands are views into wider tensors
  DType wide() const { return dtype == DType::f64 ? DType::f64 : DType::f32; }
};

// Every element type on every instruction set (the matrix unit emulated where there is none), alternately
// dense and strided; the best one on two threads; then f32 and bf16 on the GPU, if there is one, dense and
// strided.
template <class F>
void for_each_setting(F f) {
  const CpuIsa best = best_cpu_isa();
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    std::vector<Setting> settings;
    for (const CpuIsa isa : testable_cpu_isas())
      settings.push_back({DeviceKind::cpu, dtype, isa, 1, settings.size() % 2 == 1});
    settings.push_back({DeviceKind::cpu, dtype, best, 1, !settings.back().strided});
    settings.push_back({DeviceKind::cpu, dtype, best, 2, false});
    for (const Setting& setting : settings) {
      set_cpu_isa(setting.isa);
      set_num_threads(setting.threads);
      SCOPED_TRACE(std::string(name_of(dtype)) + ' ' + name_of(setting.isa) + ' ' +
                   std::to_string(setting.threads) + " threads" + (setting.strided ? ", strided" : ""));
      f(setting);
    }
  }
  set_cpu_isa(best);
  set_num_threads(0);
  if (device_of(DeviceKind::cuda) == nullptr) return;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const bool strided : {false, true}) {
      SCOPED_TRACE(std::string(name_of(dtype)) + " CUDA" + (strided ? ", strided" : ""));
      f({DeviceKind::cuda, dtype, best, 1, strided});
    }
  }
}

// Norm-wise: ||got - want|| <= tolerance * ||want||.
struct Tolerance {
  double f64 = 0, f32 = 0, bf16 = 0;
  double of(DType dtype) const { return dtype == DType::f64 ? f64 : dtype == DType::f32 ? f32 : bf16; }
};
// Sums of at most some hundred terms in the accumulator type and one rounding of the result: 2^-53, 2^-24 and
// 2^-9 with room for the sums and for e^x (2^-22 in f32).
constexpr Tolerance kRowTolerance{1e-13, 1e-6, 3e-3};

inline void expect_close(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
                         const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  // Negated so that NaN fails.
  const bool close = std::sqrt(difference) <= tolerance * std::sqrt(norm) + 1e-30;
  EXPECT_TRUE(close) << what << ": relative error " << std::sqrt(difference / norm) << ", norm "
                     << std::sqrt(norm);
}

class OpCase {
 public:
  explicit OpCase(const Setting& setting) : setting_(setting), b_(program_) {
    program_.device = setting.device;
  }
  ProgramBuilder& b() { return b_; }
  const Setting& setting() const { return setting_; }
  const Program& program() const { return program_; }

  // An i32[1] tensor that holds `value`.
  TensorId count(int64_t value) {
    return integers("count" + std::to_string(program_.tensors.size()), {1}, {static_cast<double>(value)});
  }
  // `shape` is the capacity; `values` are the valid rows, as many as `count` says. The type is the setting's.
  TensorId tensor(const std::string& name, Shape shape, std::vector<double> values, TensorId count = kNone) {
    return typed(name, setting_.dtype, shape, std::move(values), count,
                 setting_.strided && shape.rank() == 2);
  }
  TensorId integers(const std::string& name, Shape shape, std::vector<double> values, TensorId count = kNone,
                    DType dtype = DType::i32) {
    return typed(name, dtype, shape, std::move(values), count, false);
  }
  // Always dense.
  TensorId typed(const std::string& name, DType dtype, Shape shape, std::vector<double> values,
                 TensorId count = kNone) {
    return typed(name, dtype, shape, std::move(values), count, false);
  }

  // Appends the derivative of call `index`. `gradients`: of its outputs, by index. `wanted`: inputs whose
  // gradient is a new tensor. `accumulators`: inputs that are trained, with what their gradients hold before.
  void derive(const std::map<size_t, std::vector<double>>& gradients, const std::set<size_t>& wanted,
              const std::map<size_t, std::vector<double>>& accumulators = {}, size_t index = 0) {
    Derivation derivation(*this, program_.calls[index], wanted);
    for (const auto& [output, values] : gradients) {
      const TensorDecl decl = program_.tensor(program_.calls[index].outputs[output]);
      derivation.output_gradients[output] =
          decl.dtype == setting_.dtype
              ? tensor("d_output" + std::to_string(output), decl.shape, values, decl.count)
              : typed("d_output" + std::to_string(output), decl.dtype, decl.shape, values, decl.count);
    }
    for (const auto& [input, values] : accumulators) {
      const TensorDecl decl = program_.tensor(program_.calls[index].inputs[input]);
      parameter_gradients_[input] =
          typed("d_parameter" + std::to_string(input), setting_.wide(), decl.shape, values, kNone);
    }
    b_.set_phase(Phase::backward);
    const OpCall call = program_.calls[index];
    call.op->derive(derivation);
  }
  TensorId gradient(size_t input) const { return input_gradients_.at(input); }
  TensorId parameter_gradient(size_t input) const { return parameter_gradients_.at(input); }
  bool has_gradient(size_t input) const { return input_gradients_.contains(input); }

  void run() {
    runner_ = std::make_unique<ProgramRunner>(program_, ArenaKind::scattered, device_of(setting_.device));
    for (const auto& [id, values] : values_) runner_->set(id, capacity_values(id, values));
    const auto before = runner_->arena_bytes();
    runner_->run();
    check_untouched(before, runner_->arena_bytes());
  }

  std::vector<double> get(TensorId id) const { return runner_->get(id); }
  std::vector<char> raw(TensorId id) const { return runner_->raw(id); }
  void expect_near(TensorId id, const std::vector<double>& want, const Tolerance& tolerance) const {
    const TensorDecl& decl = program_.tensor(id);
    // Accumulated gradients are wide, but their terms come from operands of the element type.
    expect_close(get(id), want, tolerance.of(setting_.dtype), decl.name);
  }

 private:
  struct Derivation final : DeriveContext {
    Derivation(OpCase& owner, OpCall forward, std::set<size_t> wanted_inputs)
        : op_case(owner), forward_call(std::move(forward)), wanted(std::move(wanted_inputs)) {}
    ProgramBuilder& builder() override { return op_case.b_; }
    const OpCall& call() const override { return forward_call; }
    TensorId output_gradient(size_t i) override {
      const auto it = output_gradients.find(i);
      return it == output_gradients.end() ? kNone : it->second;
    }
    bool wants(size_t input) const override { return wanted.contains(input); }
    TensorId parameter_gradient(size_t input) const override {
      const auto it = op_case.parameter_gradients_.find(input);
      return it == op_case.parameter_gradients_.end() ? kNone : it->second;
    }
    TensorId gradient_slot(size_t input) override {
      if (!wants(input)) return kNone;
      const TensorDecl decl = op_case.program_.tensor(forward_call.inputs[input]);
      const std::string name = "d_input" + std::to_string(input);
      const int64_t columns = decl.shape.row_size(), extra = op_case.setting_.strided ? 5 : 0;
      const TensorId whole =
          op_case.b_.temporary(name, decl.dtype, {decl.shape.rows(), columns + extra}, decl.count);
      return op_case.input_gradients_[input] = op_case.b_.columns(whole, extra / 2, columns);
    }
    void defer(std::function<void()> work) override { work(); }
    void give(size_t input, TensorId gradient) override {
      if (wants(input)) op_case.input_gradients_[input] = gradient;
    }
    OpCase& op_case;
    OpCall forward_call;
    std::set<size_t> wanted;
    std::map<size_t, TensorId> output_gradients;
  };

  TensorId typed(const std::string& name, DType dtype, Shape shape, std::vector<double> values,
                 TensorId count, bool strided) {
    const int64_t extra = strided ? 3 + static_cast<int64_t>(program_.tensors.size() % 3) : 0;
    const Shape whole = extra > 0 ? Shape{shape.rows(), shape.row_size() + extra} : shape;
    TensorId id = b_.input(name, dtype, whole, count);
    if (extra > 0) id = b_.columns(id, extra / 2, shape.row_size());
    values_[id] = std::move(values);
    return id;
  }

  // On a GPU rows past the count are finite, and zero where they are gradients (ops/common/cuda_kernel.h).
  std::vector<double> capacity_values(TensorId id, std::vector<double> values) const {
    if (setting_.device != DeviceKind::cpu)
      values.resize(static_cast<size_t>(program_.tensor(id).shape.elements()), 0.0);
    return values;
  }

  void check_untouched(const std::vector<char>& before, const std::vector<char>& after) const {
    std::vector<bool> writable(before.size(), false);
    Executor& executor = runner_->executor();
    const char* arena = nullptr;
    for (size_t id = 0; id < program_.tensors.size() && arena == nullptr; ++id)
      if (executor.plan().offsets[id] >= 0)
        arena = static_cast<const char*>(executor.operand(static_cast<TensorId>(id)).data) -
                executor.plan().offsets[id];
    const auto allow = [&](int64_t from, int64_t bytes) {
      for (int64_t i = 0; i < bytes; ++i) writable[static_cast<size_t>(from + i)] = true;
    };
    for (size_t c = 0; c < program_.calls.size(); ++c) {
      const OpCall& call = program_.calls[c];
      for (const auto* list : {&call.outputs, &call.updates}) {
        for (const TensorId id : *list) {
          if (id == kNone || program_.tensor(program_.root(id)).kind == TensorKind::state) continue;
          Operand o = executor.operand(id);
          if (setting_.device != DeviceKind::cpu) o.rows = program_.tensor(id).shape.rows();
          for (int64_t row = 0; row < o.rows; ++row)
            allow(static_cast<const char*>(o.data) - arena + row * o.row_stride * size_of(o.dtype),
                  o.row_size * size_of(o.dtype));
        }
      }
      if (const int64_t bytes = workspace_of(CallView{program_, call}); bytes > 0)
        allow(executor.plan().workspace_offsets[c], bytes);
    }
    int64_t touched = 0;
    for (size_t i = 0; i < before.size(); ++i) touched += !writable[i] && before[i] != after[i] ? 1 : 0;
    EXPECT_EQ(touched, 0) << "bytes changed outside what the calls may write";
  }

  Setting setting_;
  Program program_;
  ProgramBuilder b_;
  std::map<TensorId, std::vector<double>> values_;
  std::map<size_t, TensorId> input_gradients_, parameter_gradients_;
  std::unique_ptr<ProgramRunner> runner_;
};

}  // namespace serval::testing
