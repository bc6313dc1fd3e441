#include "nn/parameters.h"

#include "base/error.h"

namespace serval {

TensorId declare_parameter(ProgramBuilder& b, const Parameter& p) {
  if (!p.storage) return b.state(p.state, p.dtype, p.shape, p.role);
  const TensorId whole = b.state(p.storage->state, p.dtype, p.storage->shape, Role::weight);
  return b.region(whole, p.state, p.shape, p.storage->offset, p.role);
}

std::string gradient_state(const Parameter& parameter) {
  return parameter.state + ".gradient";
}
std::string master_state(const ParameterSlice& slice) {
  return slice.name + ".master";
}
std::string moment_state(const ParameterSlice& slice, int which) {
  return slice.name + (which == 1 ? ".exp_avg" : ".exp_avg_sq");
}
std::string absmax_state(const ParameterSlice& slice, int which) {
  return moment_state(slice, which) + ".absmax";
}

void ParameterTable::add(Parameter parameter) {
  if (const Parameter* old = find_state(parameter.state)) {
    SERVAL_CHECK(old->shape == parameter.shape && old->dtype == parameter.dtype, "parameter '{}'",
                 parameter.state);
    return;
  }
  by_state_.emplace(parameter.state, parameters_.size());
  parameters_.push_back(std::move(parameter));
}

const Parameter* ParameterTable::find_state(std::string_view state) const {
  const auto it = by_state_.find(state);
  return it == by_state_.end() ? nullptr : &parameters_[it->second];
}

}  // namespace serval
