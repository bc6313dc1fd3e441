// Random numbers of the tests: the same on every machine.
#pragma once
#include <cstdint>
#include <vector>

#include "base/philox.h"
#include "tensor/dtype.h"

namespace serval::testing {

class Random {
 public:
  explicit Random(uint64_t seed) : key_(philox_key(seed, "tests", 0, 0)) {}
  int64_t below(int64_t limit) { return static_cast<int64_t>(philox_u32(key_, next_++)) % limit; }
  bool chance(double p) { return philox_uniform(key_, next_++) < static_cast<float>(p); }
  double normal() { return philox_normal(key_, next_++); }
  template <class T>
  const T& pick(const std::vector<T>& values) {
    return values[static_cast<size_t>(below(static_cast<int64_t>(values.size())))];
  }
  // Normal numbers that every element type holds exactly.
  std::vector<double> normals(int64_t count, double scale = 1) {
    std::vector<double> values(static_cast<size_t>(count));
    for (double& value : values)
      value = static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(normal() * scale))));
    return values;
  }

 private:
  PhiloxKey key_;
  uint64_t next_ = 0;
};

}  // namespace serval::testing
