// Arithmetic of the CPU kernels: element types are read into an accumulator type (double for f64, else float)
// and rounded once when stored. Everything is always_inline: these files are compiled once per instruction
// set.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/operand.h"

namespace serval {

template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

SERVAL_INLINE float load(float x) {
  return x;
}
SERVAL_INLINE double load(double x) {
  return x;
}
SERVAL_INLINE float load(BFloat16 x) {
  return static_cast<float>(x);
}
template <class T, class A>
SERVAL_INLINE T store(A x) {
  return static_cast<T>(x);
}

// Calls f with a value of the element type: f(double{}), f(float{}) or f(BFloat16{}).
template <class F>
SERVAL_INLINE void with_type(DType dtype, F f) {
  if (dtype == DType::f64)
    f(double{});
  else if (dtype == DType::f32)
    f(float{});
  else
    f(BFloat16{});
}

SERVAL_INLINE float square_root(float x) {
  return __builtin_sqrtf(x);
}
SERVAL_INLINE double square_root(double x) {
  return __builtin_sqrt(x);
}

// f(0) + ... + f(size - 1) in 16 lanes, in an order that does not depend on the instruction set.
template <class A, class F>
SERVAL_INLINE A sum_in_lanes(int64_t size, F f) {
  A lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= size; i += 16)
    for (int lane = 0; lane < 16; ++lane) lanes[lane] += f(i + lane);
  A sum = 0;
  for (; i < size; ++i) sum += f(i);
  for (int lane = 0; lane < 16; ++lane) sum += lanes[lane];
  return sum;
}

// e^x for floats, without branches so that loops over it vectorise; relative error below 2^-22 on the whole
// range. Cody-Waite reduction to |r| <= ln(2)/2 and a polynomial of degree 6.
SERVAL_INLINE float exponential(float x) {
  x = x > 88.3762626647949f ? 88.3762626647949f : x;
  x = x < -87.3365478515625f ? -87.3365478515625f : x;
  const float shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
  const float n = shifted - 12582912.0f;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (__builtin_bit_cast(int32_t, shifted) - 0x4B400000) + 127;
  return p * __builtin_bit_cast(float, bits << 23);
}
SERVAL_INLINE double exponential(double x) {
  return __builtin_exp(x);
}

}  // namespace serval
