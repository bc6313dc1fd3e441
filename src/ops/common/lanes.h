// Sixteen numbers of a row at once, for the row kernels of the CPU: vectors of the accumulator type that
// every instruction set takes apart as it needs, so that sums have the same order on all of them. Compiled
// once per instruction set, like all CPU kernels.
//
//   for_lanes(size, [&](int64_t i, auto count) {              // count: kLanes, less at the end of the row
//     const auto x = read_lanes(row + i, count);              // float or BFloat16 as floats; zero past count
//     write_lanes(out + i, x / (exponential(-x) + 1.0f), count);
//   });
#pragma once
#include "ops/common/kernel_math.h"

#if defined(SERVAL_ISA_avx512) || defined(SERVAL_ISA_avx512_bf16)
#include <immintrin.h>
#define SERVAL_AVX512 1
#endif

namespace serval::SERVAL_ISA {
namespace {

using serval::exponential;
using serval::square_root;

constexpr int64_t kLanes = 16;

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kLanes * sizeof(T))));
};
template <class A>
using Lanes = typename VectorOf<A>::type;

// All lanes: a count that is known when the kernel is compiled.
struct AllLanes {};

template <class F>
SERVAL_INLINE void for_lanes(int64_t size, F f) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) f(i, AllLanes{});
  if (i < size) f(i, size - i);
}

template <class A>
SERVAL_INLINE Lanes<A> all_lanes(A x) {
  return x - Lanes<A>{};
}

SERVAL_INLINE Lanes<float> read_lanes(const float* from, AllLanes) {
  Lanes<float> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
SERVAL_INLINE Lanes<double> read_lanes(const double* from, AllLanes) {
  Lanes<double> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
SERVAL_INLINE Lanes<float> read_lanes(const BFloat16* from, AllLanes) {
  Lanes<uint16_t> bits;
  __builtin_memcpy(&bits, from, sizeof bits);
#ifdef SERVAL_AVX512
  return (Lanes<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)bits), 16);
#else
  return (Lanes<float>)(__builtin_convertvector(bits, Lanes<uint32_t>) << 16);
#endif
}
template <class T>
SERVAL_INLINE Lanes<Accumulator<T>> read_lanes(const T* from, int64_t count) {
  T some[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) some[i] = from[i];
  return read_lanes(some, AllLanes{});
}

SERVAL_INLINE void write_lanes(float* to, Lanes<float> x, AllLanes) {
  __builtin_memcpy(to, &x, sizeof x);
}
SERVAL_INLINE void write_lanes(double* to, Lanes<double> x, AllLanes) {
  __builtin_memcpy(to, &x, sizeof x);
}
// Rounds to nearest, ties to even, as BFloat16 does; the instruction takes numbers below 2^-126 for zero.
SERVAL_INLINE void write_lanes(BFloat16* to, Lanes<float> x, AllLanes) {
#ifdef SERVAL_ISA_avx512_bf16
  const __m256bh bits = _mm512_cvtneps_pbh((__m512)x);
#else
  const auto u = (Lanes<uint32_t>)x;
  const Lanes<uint32_t> rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, nan = (u >> 16) | 0x40u;
  const Lanes<uint16_t> bits =
      __builtin_convertvector((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded, Lanes<uint16_t>);
#endif
  __builtin_memcpy(static_cast<void*>(to), &bits, sizeof bits);
}
template <class T>
SERVAL_INLINE void write_lanes(T* to, Lanes<Accumulator<T>> x, int64_t count) {
  T some[kLanes];
  write_lanes(some, x, AllLanes{});
  for (int64_t i = 0; i < count; ++i) to[i] = some[i];
}

// Lane i and lane i + 8, then their sums i and i + 4, and so on.
template <class A>
SERVAL_INLINE A sum_of(Lanes<A> x) {
  typedef A Eight __attribute__((vector_size(8 * sizeof(A))));
  typedef A Four __attribute__((vector_size(4 * sizeof(A))));
  const Eight eight = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  const Four four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// 1 / x, within an ulp or two.
SERVAL_INLINE Lanes<float> reciprocal(Lanes<float> x) {
#ifdef SERVAL_AVX512
  const auto guess = (Lanes<float>)_mm512_rcp14_ps((__m512)x);
  return guess + guess * (1.0f - x * guess);
#else
  return 1.0f / x;
#endif
}
SERVAL_INLINE Lanes<double> reciprocal(Lanes<double> x) {
  return 1.0 / x;
}

SERVAL_INLINE Lanes<float> square_root(Lanes<float> x) {
#ifdef SERVAL_AVX512
  return (Lanes<float>)_mm512_sqrt_ps((__m512)x);
#else
  for (int64_t i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}
SERVAL_INLINE Lanes<double> square_root(Lanes<double> x) {
  for (int64_t i = 0; i < kLanes; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
}

// e^x with a relative error below 2^-22 on the whole range of floats: exponential() of kernel_math.h, lane by
// lane.
SERVAL_INLINE Lanes<float> exponential(Lanes<float> x) {
  const auto highest = all_lanes(88.3762626647949f), lowest = all_lanes(-87.3365478515625f);
  x = x > highest ? highest : x;
  x = x < lowest ? lowest : x;
#ifdef SERVAL_AVX512
  const auto n =
      (Lanes<float>)_mm512_roundscale_ps((__m512)(x * 1.44269504088896341f), _MM_FROUND_TO_NEAREST_INT);
#else
  const Lanes<float> shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const Lanes<float> n = shifted - 12582912.0f;
#endif
  Lanes<float> r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  // The terms in pairs, so that they do not wait for each other.
  const Lanes<float> square = r * r;
  const Lanes<float> high = 8.3334519073e-3f + r * 1.3981999507e-3f + square * 1.9875691500e-4f;
  const Lanes<float> low = 5.0000001201e-1f + r * 1.6666665459e-1f + square * 4.1665795894e-2f;
  const Lanes<float> p = (r + 1.0f) + square * (low + square * r * high);
#ifdef SERVAL_AVX512
  return (Lanes<float>)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  return p * (Lanes<float>)(((Lanes<int32_t>)shifted - 0x4B400000 + 127) << 23);
#endif
}
SERVAL_INLINE Lanes<double> exponential(Lanes<double> x) {
  for (int64_t i = 0; i < kLanes; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

}  // namespace
}  // namespace serval::SERVAL_ISA
