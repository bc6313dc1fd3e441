#include "nn/parameters.h"

#include "base/error.h"

namespace serval {

std::string gradient_state(const Parameter& parameter) {
  return parameter.state + ".gradient";
}
std::string master_state(const ParameterSlice& slice) {
  return slice.name + ".master";
}
std::string moment_state(const ParameterSlice& slice, int which) {
  return slice.name + (which == 1 ? ".exp_avg" : ".exp_avg_sq");
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
