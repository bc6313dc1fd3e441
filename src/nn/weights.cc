#include "nn/weights.h"

#include <algorithm>
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

// Elements [first, first + count) of a slice, in `dtype`.
using ProduceSlice = std::function<void(void* target, DType dtype, int64_t first, int64_t count)>;

// The master is the source of truth; the tensor that products read is its rounded copy.
void write_slice(const Parameter& parameter, const ParameterSlice& slice, StateStore& states,
                 const ProduceSlice& produce) {
  const bool has_master = slice.trained && states.contains(master_state(slice));
  const std::string name = has_master ? master_state(slice) : parameter.state;
  const DType dtype = has_master ? states.state(name).dtype : parameter.dtype;
  states.fill(name, has_master ? 0 : first_element(parameter, slice), slice.shape.elements(),
              [&](void* target, int64_t first, int64_t count) { produce(target, dtype, first, count); });
  if (has_master) round_master(parameter, slice, states);
}

// Tensors that are read straight into their states on the CPU: all in one parallel region, since threads that
// meet after each tensor wait for the slowest of them each time.
class DirectReads {
 public:
  explicit DirectReads(const TensorSource& source) : source_(source) {}

  void add(const std::string& name, void* target, DType dtype, int64_t count) {
    constexpr int64_t kPart = int64_t{2} << 20;  // elements
    for (int64_t first = 0; first < count; first += kPart)
      parts_.push_back({&name, static_cast<std::byte*>(target) + first * size_of(dtype), dtype, first,
                        std::min(kPart, count - first)});
  }

  void run() const {
    std::vector<char> done(parts_.size());
    parallel_for(0, static_cast<int64_t>(parts_.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Part& p = parts_[static_cast<size_t>(i)];
        done[static_cast<size_t>(i)] = source_.read_part(*p.name, p.first, p.count, p.target, p.dtype);
      }
    });
    for (size_t i = 0; i < parts_.size(); ++i)  // a source that gives whole tensors alone
      if (!done[i] && parts_[i].first == 0) source_.read(*parts_[i].name, parts_[i].target, parts_[i].dtype);
  }

 private:
  struct Part {
    const std::string* name;
    std::byte* target;
    DType dtype;
    int64_t first, count;
  };
  const TensorSource& source_;
  std::vector<Part> parts_;
};

// One part of a slice for a device; a source that gives whole tensors alone is read once, into `whole`.
void read_part(const TensorSource& source, const ParameterSlice& slice, std::vector<std::byte>& whole,
               void* target, DType dtype, int64_t first, int64_t count) {
  if (first == 0 && count == slice.shape.elements()) return source.read(slice.name, target, dtype);
  if (source.read_part(slice.name, first, count, target, dtype)) return;
  const int64_t size = size_of(dtype);
  if (first == 0) {
    whole.resize(static_cast<size_t>(slice.shape.elements() * size));
    source.read(slice.name, whole.data(), dtype);
  }
  std::memcpy(target, whole.data() + first * size, static_cast<size_t>(count * size));
}

}  // namespace

void load_parameters(const ParameterTable& table, Role role, const TensorSource& source, StateStore& states) {
  DirectReads direct(source);
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
      const bool has_master = slice.trained && states.contains(master_state(slice));
      if (states.device().kind() == DeviceKind::cpu && !has_master && states.state(parameter.state).dense()) {
        auto* data = static_cast<std::byte*>(states.data(parameter.state));
        direct.add(slice.name, data + first_element(parameter, slice) * size_of(parameter.dtype),
                   parameter.dtype, slice.shape.elements());
        continue;
      }
      std::vector<std::byte> whole;
      write_slice(parameter, slice, states, [&](void* target, DType dtype, int64_t first, int64_t count) {
        read_part(source, slice, whole, target, dtype, first, count);
      });
    }
  }
  direct.run();
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
      write_slice(parameter, slice, states, [&](void* target, DType dtype, int64_t first, int64_t count) {
        convert_elements(values.data() + first, DType::f32, target, dtype, count);
      });
    }
  }
}

void round_master(const Parameter& parameter, const ParameterSlice& slice, StateStore& states) {
  const std::string master = master_state(slice);
  const int64_t first = first_element(parameter, slice), count = slice.shape.elements();
  const DType wide = states.state(master).dtype;
  states.with_values(master, 0, count, [&](const void* values) {
    states.fill(parameter.state, first, count, [&](void* target, int64_t from, int64_t part) {
      convert_elements(static_cast<const std::byte*>(values) + from * size_of(wide), wide, target,
                       parameter.dtype, part);
    });
  });
}

void read_slice(const Parameter& parameter, const ParameterSlice& slice, const StateStore& states,
                void* target, DType dtype) {
  read_slice_rows(parameter, slice, states, 0, slice.shape.rows(), target, dtype);
}

void read_slice_rows(const Parameter& parameter, const ParameterSlice& slice, const StateStore& states,
                     int64_t row_begin, int64_t row_count, void* target, DType dtype) {
  const bool master = slice.trained && states.contains(master_state(slice));
  const std::string name = master ? master_state(slice) : parameter.state;
  const int64_t width = slice.shape.row_size(), count = row_count * width;
  const int64_t first = (master ? 0 : first_element(parameter, slice)) + row_begin * width;
  states.with_values(name, first, count, [&](const void* values) {
    convert_elements(values, states.state(name).dtype, target, dtype, count);
  });
}

}  // namespace serval
