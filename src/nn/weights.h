// Filling the states of a network from a checkpoint or from random numbers, and reading them back as the
// files want them. A source and a sink are anything with named tensors: a checkpoint directory, an adapter, a
// test.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "nn/parameters.h"
#include "run/state_store.h"

namespace serval {

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual std::optional<Shape> shape(const std::string& name) const = 0;  // nullopt: no such tensor
  // The whole tensor, converted to `dtype`, dense.
  virtual void read(const std::string& name, void* target, DType dtype) const = 0;
  // Elements [first, first + count) alone; called by several threads at once. False, with nothing written,
  // where the source gives whole tensors only.
  virtual bool read_part(const std::string& /*name*/, int64_t /*first*/, int64_t /*count*/, void* /*target*/,
                         DType /*dtype*/) const {
    return false;
  }
  virtual std::string where() const = 0;  // for errors
};

// Reads every parameter of the role from the source; a missing tensor or a wrong shape is a UserError that
// names it.
void load_parameters(const ParameterTable& table, Role role, const TensorSource& source, StateStore& states);

// Random weights: a pure function of seed and parameter name, the same on every machine.
void initialize_parameters(const ParameterTable& table, Role role, double initializer_range, uint64_t seed,
                           StateStore& states);

// Rounds a trained slice's master into the tensor that the products read.
void round_master(const Parameter& parameter, const ParameterSlice& slice, StateStore& states);

// The value of one slice in `dtype`: of its master where it has one, else as the products read it.
void read_slice(const Parameter& parameter, const ParameterSlice& slice, const StateStore& states,
                void* target, DType dtype);
// Some of its rows alone.
void read_slice_rows(const Parameter& parameter, const ParameterSlice& slice, const StateStore& states,
                     int64_t row_begin, int64_t row_count, void* target, DType dtype);

}  // namespace serval
