#include "base/philox.h"

#include <cmath>

namespace serval {

double philox_normal(const PhiloxKey& key, uint64_t element) {
  const auto words = philox_block(key, element / 2);
  const size_t pair = 2 * (element % 2);
  const double u = (words[pair] + 1.0) * 0x1p-32, v = words[pair + 1] * 0x1p-32;
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979323846 * v);
}

}  // namespace serval
