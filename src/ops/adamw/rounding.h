// Stochastic rounding to bf16: up with the probability that leaves the mean exact. Weights that are kept in
// bf16 then move on average by the whole update, even where one update is less than half a step of their
// type. Light enough for device compilers.
#pragma once
#include "tensor/dtype.h"

namespace serval {

// The bits of x rounded to bf16, up if the lower 16 bits of x and 16 random ones carry. What is not finite
// stays so.
SERVAL_INLINE constexpr uint16_t bf16_bits_stochastic(float x, uint32_t random) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  if ((bits & 0x7f800000u) == 0x7f800000u)  // a NaN may have none of its upper bits set
    return static_cast<uint16_t>(bits >> 16 | ((bits & 0x7fffffu) != 0 ? 0x40u : 0u));
  return static_cast<uint16_t>((bits + (random & 0xffffu)) >> 16);
}
// One random word rounds two numbers.
SERVAL_INLINE constexpr uint32_t for_weight(uint32_t random) {
  return random & 0xffffu;
}
SERVAL_INLINE constexpr uint32_t for_second_moment(uint32_t random) {
  return random >> 16;
}

}  // namespace serval
