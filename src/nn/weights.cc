#include "nn/weights.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/philox.h"

namespace serval {
namespace {

int64_t first_element(const Parameter& parameter, const ParameterSlice& slice) {
  return slice.row_begin * parameter.shape.row_size();
}

// The master is the source of truth; the tensor that products read is its rounded copy.
void write_slice(const Parameter& parameter, const ParameterSlice& slice, StateStore& states,
                 const std::function<void(void* target, DType dtype)>& produce) {
  const int64_t first = first_element(parameter, slice), count = slice.shape.elements();
  if (slice.trained && states.contains(master_state(slice))) {
    const std::string master = master_state(slice);
    states.fill(master, 0, count, [&](void* target) { produce(target, states.state(master).dtype); });
    round_master(parameter, slice, states);
    return;
  }
  states.fill(parameter.state, first, count, [&](void* target) { produce(target, parameter.dtype); });
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

void round_master(const Parameter& parameter, const ParameterSlice& slice, StateStore& states) {
  const std::string master = master_state(slice);
  const int64_t first = first_element(parameter, slice), count = slice.shape.elements();
  const DType wide = states.state(master).dtype;
  std::vector<std::byte> rounded;
  states.with_values(master, 0, count, [&](const void* values) {
    if (states.device().kind() == DeviceKind::cpu) {
      states.fill(parameter.state, first, count,
                  [&](void* target) { convert_elements(values, wide, target, parameter.dtype, count); });
      return;
    }
    rounded.resize(static_cast<size_t>(count * size_of(parameter.dtype)));
    convert_elements(values, wide, rounded.data(), parameter.dtype, count);
  });
  if (!rounded.empty())
    states.fill(parameter.state, first, count,
                [&](void* target) { std::memcpy(target, rounded.data(), rounded.size()); });
}

void read_slice(const Parameter& parameter, const ParameterSlice& slice, const StateStore& states,
                void* target, DType dtype) {
  const bool master = slice.trained && states.contains(master_state(slice));
  const std::string name = master ? master_state(slice) : parameter.state;
  states.with_values(
      name, master ? 0 : first_element(parameter, slice), slice.shape.elements(), [&](const void* values) {
        convert_elements(values, states.state(name).dtype, target, dtype, slice.shape.elements());
      });
}

}  // namespace serval
