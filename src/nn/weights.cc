#include "nn/weights.h"

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/philox.h"

namespace serval {
namespace {

char* slice_data(const Parameter& parameter, const ParameterSlice& slice, const StateStore& states) {
  return static_cast<char*>(states.data(parameter.state)) +
         slice.row_begin * parameter.shape.row_size() * size_of(parameter.dtype);
}

// The master is the source of truth; the tensor that products read is its rounded copy.
void write_slice(const Parameter& parameter, const ParameterSlice& slice, StateStore& states,
                 const std::function<void(void* target, DType dtype)>& produce) {
  char* data = slice_data(parameter, slice, states);
  if (slice.trained && states.contains(master_state(slice))) {
    void* master = states.data(master_state(slice));
    const DType wide = states.state(master_state(slice)).dtype;
    produce(master, wide);
    convert_elements(master, wide, data, parameter.dtype, slice.shape.elements());
    return;
  }
  produce(data, parameter.dtype);
}

}  // namespace

void load_parameters(const ParameterTable& table, Role role, const TensorSource& source, StateStore& states) {
  for (const Parameter& parameter : table.all()) {
    if (parameter.role != role) continue;
    for (const ParameterSlice& slice : parameter.slices) {
      const auto shape = source.shape(slice.name);
      if (!shape && slice.optional) continue;
      if (!shape)
        fail("{}: the tensor '{}' {} is missing", source.where(), slice.name, to_string(slice.shape));
      if (*shape != slice.shape)
        fail("{}: the tensor '{}' is {}, expected {}", source.where(), slice.name, to_string(*shape),
             to_string(slice.shape));
      write_slice(parameter, slice, states,
                  [&](void* target, DType dtype) { source.read(slice.name, target, dtype); });
    }
  }
}

void initialize_parameters(const ParameterTable& table, Role role, double initializer_range, uint64_t seed,
                           StateStore& states) {
  std::vector<float> values;
  for (const Parameter& parameter : table.all()) {
    if (parameter.role != role) continue;
    for (const ParameterSlice& slice : parameter.slices) {
      const PhiloxKey key = philox_key(seed, slice.name, 0, 0);
      values.assign(static_cast<size_t>(slice.shape.elements()), slice.init == Init::ones ? 1.0f : 0.0f);
      const double bound = 1 / std::sqrt(static_cast<double>(slice.shape.row_size()));
      parallel_for(0, slice.shape.elements(), 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const auto element = static_cast<uint64_t>(i);
          if (slice.init == Init::normal)
            values[element] = static_cast<float>(initializer_range * philox_normal(key, element));
          else if (slice.init == Init::lora_a)
            values[element] =
                static_cast<float>(bound * (2.0 * static_cast<double>(philox_uniform(key, element)) - 1));
        }
      });
      write_slice(parameter, slice, states, [&](void* target, DType dtype) {
        convert_elements(values.data(), DType::f32, target, dtype, slice.shape.elements());
      });
    }
  }
}

void read_slice(const Parameter& parameter, const ParameterSlice& slice, const StateStore& states,
                void* target, DType dtype) {
  if (slice.trained && states.contains(master_state(slice))) {
    convert_elements(states.data(master_state(slice)), states.state(master_state(slice)).dtype, target, dtype,
                     slice.shape.elements());
    return;
  }
  convert_elements(slice_data(parameter, slice, states), parameter.dtype, target, dtype,
                   slice.shape.elements());
}

}  // namespace serval
