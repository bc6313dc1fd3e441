// Products of small tiles held in thread-local memory, compiled once per instruction set. All buffers consist
// of 4-byte words: a float, or a pair of bf16 that vdpbf16ps multiplies and adds at once. With "step" one
// word of the reduced dimension (1 float or 2 bf16):
//   C[rows, columns] (+)= sum over steps of A[row * a_row + step * a_step] * B[step * b_step + column]
#pragma once
#include <immintrin.h>

#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {
namespace {

#ifdef SERVAL_ISA_avx2
constexpr int kLanes = 8, kPanel = 2;  // lanes of a vector; vectors of a micro-tile's row
#else
constexpr int kLanes = 16, kPanel = 4;
#endif
typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));
typedef Vec LooseVec __attribute__((aligned(4), may_alias));
typedef IntVec LooseIntVec __attribute__((aligned(4), may_alias));

SERVAL_INLINE Vec load_vec(const void* p) {
  return *static_cast<const LooseVec*>(p);
}
SERVAL_INLINE void store_vec(void* p, Vec x) {
  *static_cast<LooseVec*>(p) = x;
}
SERVAL_INLINE Vec splat(float x) {
  return x - Vec{};
}
SERVAL_INLINE IntVec lane_index() {
#ifdef SERVAL_ISA_avx2
  return IntVec{0, 1, 2, 3, 4, 5, 6, 7};
#else
  return IntVec{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#endif
}
SERVAL_INLINE float sum_of(Vec x) {
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += x[lane];
  return sum;
}
SERVAL_INLINE float max_of(Vec x) {
  float most = x[0];
  for (int lane = 1; lane < kLanes; ++lane) most = x[lane] > most ? x[lane] : most;
  return most;
}
// exponential() of kernel_math.h for a vector; the arguments here are at most about zero.
SERVAL_INLINE Vec exponential_vec(Vec x) {
  x = x > splat(88.3762626647949f) ? splat(88.3762626647949f) : x;
  x = x < splat(-87.3365478515625f) ? splat(-87.3365478515625f) : x;
  const Vec shifted = x * 1.44269504088896341f + 12582912.0f;
  const Vec n = shifted - 12582912.0f;
  Vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const IntVec bits = (IntVec)shifted - 0x4B400000 + 127;
  return p * (Vec)(bits << 23);
}

SERVAL_INLINE Vec multiply_add(float a, Vec b, Vec sum) {
  return sum + a * b;
}
#ifdef SERVAL_ISA_avx512_bf16
SERVAL_INLINE Vec multiply_add(int32_t a, Vec b, Vec sum) {
  return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
}
#endif

template <class Word>
struct Strided {
  const Word* data;
  int64_t row, step;
};

// One micro-tile, its sums in registers; the unrolled loops let the compiler take the array apart.
template <int kRows, int kVectors, class Word>
SERVAL_INLINE void micro_product(Strided<Word> a, const Word* b, int64_t b_step, int64_t steps, float* c,
                                 int64_t c_row, bool accumulate) {
  Vec sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) sum[r][n] = accumulate ? load_vec(c + r * c_row + n * kLanes) : Vec{};
  for (int64_t step = 0; step < steps; ++step) {
    Vec columns[kVectors];
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) columns[n] = load_vec(b + step * b_step + n * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Word word = a.data[r * a.row + step * a.step];
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) sum[r][n] = multiply_add(word, columns[n], sum[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) store_vec(c + r * c_row + n * kLanes, sum[r][n]);
}

template <int kVectors, class Word>
__attribute__((noinline)) void product_panel(int64_t rows, Strided<Word> a, const Word* b, int64_t b_step,
                                             int64_t steps, float* c, int64_t c_row, bool accumulate) {
  int64_t r = 0;
  for (; r + 6 <= rows; r += 6)
    micro_product<6, kVectors>({a.data + r * a.row, a.row, a.step}, b, b_step, steps, c + r * c_row, c_row,
                               accumulate);
  for (; r + 4 <= rows; r += 4)
    micro_product<4, kVectors>({a.data + r * a.row, a.row, a.step}, b, b_step, steps, c + r * c_row, c_row,
                               accumulate);
  for (; r < rows; ++r)
    micro_product<1, kVectors>({a.data + r * a.row, a.row, a.step}, b, b_step, steps, c + r * c_row, c_row,
                               accumulate);
}

// `columns` is rounded up to whole vectors: buffers hold multiples of 16 columns.
template <class Word>
void product(int64_t rows, int64_t columns, int64_t steps, Strided<Word> a, const Word* b, int64_t b_step,
             float* c, int64_t c_row, bool accumulate) {
  int64_t vectors = (columns + kLanes - 1) / kLanes;
  for (; vectors >= kPanel; vectors -= kPanel, b += kPanel * kLanes, c += kPanel * kLanes)
    product_panel<kPanel>(rows, a, b, b_step, steps, c, c_row, accumulate);
  if (vectors == 1) product_panel<1>(rows, a, b, b_step, steps, c, c_row, accumulate);
#ifndef SERVAL_ISA_avx2
  if (vectors == 2) product_panel<2>(rows, a, b, b_step, steps, c, c_row, accumulate);
  if (vectors == 3) product_panel<3>(rows, a, b, b_step, steps, c, c_row, accumulate);
#endif
}

// How many elements of the reduced dimension a word holds.
SERVAL_INLINE constexpr int64_t per_word(float) {
  return 1;
}
SERVAL_INLINE constexpr int64_t per_word(int32_t) {
  return 2;
}

// One row of `size` elements (a multiple of 8) as words, followed by zeros up to `padded` elements.
SERVAL_INLINE void copy_row(const BFloat16* source, int64_t size, int64_t padded, int32_t* target) {
  __builtin_memcpy(target, source, static_cast<size_t>(size) * 2);
  for (int64_t i = size / 2; i < padded / 2; ++i) target[i] = 0;
}
SERVAL_INLINE void copy_row(const BFloat16* source, int64_t size, int64_t padded, float* target) {
  for (int64_t i = 0; i < size; ++i) target[i] = static_cast<float>(source[i]);
  for (int64_t i = size; i < padded; ++i) target[i] = 0;
}
SERVAL_INLINE void copy_row(const float* source, int64_t size, int64_t padded, float* target) {
  __builtin_memcpy(target, source, static_cast<size_t>(size) * 4);
  for (int64_t i = size; i < padded; ++i) target[i] = 0;
}

SERVAL_INLINE void store_row(const float* source, int64_t size, float factor, float* target) {
  for (int64_t i = 0; i < size; ++i) target[i] = source[i] * factor;
}
SERVAL_INLINE void store_row(const float* source, int64_t size, float factor, BFloat16* target) {
  for (int64_t i = 0; i < size; ++i) target[i] = BFloat16(source[i] * factor);
}

// target[column][row] = source[row][column], 8 x 8 words at a time; both sides multiples of 8.
template <class Word>
void transpose(const Word* source, int64_t rows, int64_t columns, int64_t source_row, Word* target,
               int64_t target_row) {
  for (int64_t r = 0; r < rows; r += 8) {
    for (int64_t c = 0; c < columns; c += 8) {
      __m256 x[8], y[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        x[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(source + (r + i) * source_row + c));
#pragma GCC unroll 2
      for (int i = 0; i < 8; i += 4) {
        const __m256 a = _mm256_unpacklo_ps(x[i], x[i + 1]), b = _mm256_unpackhi_ps(x[i], x[i + 1]);
        const __m256 d = _mm256_unpacklo_ps(x[i + 2], x[i + 3]), e = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
        y[i] = _mm256_shuffle_ps(a, d, 0x44), y[i + 1] = _mm256_shuffle_ps(a, d, 0xEE);
        y[i + 2] = _mm256_shuffle_ps(b, e, 0x44), y[i + 3] = _mm256_shuffle_ps(b, e, 0xEE);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        _mm256_storeu_ps(reinterpret_cast<float*>(target + (c + i) * target_row + r),
                         _mm256_permute2f128_ps(y[i], y[i + 4], 0x20));
        _mm256_storeu_ps(reinterpret_cast<float*>(target + (c + i + 4) * target_row + r),
                         _mm256_permute2f128_ps(y[i], y[i + 4], 0x31));
      }
    }
  }
}

// Rows as the B side of a product that reduces over them: floats as they are, bf16 rows 2i and 2i + 1
// interleaved. `rows` is even for bf16; `size` elements of a row, a multiple of 16.
SERVAL_INLINE const float* reduce_rows(const float* rows_of, int64_t, int64_t, float*) {
  return rows_of;
}
#ifdef SERVAL_ISA_avx512_bf16
SERVAL_INLINE const int32_t* reduce_rows(const int32_t* rows_of, int64_t rows, int64_t size,
                                         int32_t* target) {
  for (int64_t r = 0; r < rows; r += 2) {
    const int32_t *even = rows_of + r * size / 2, *odd = even + size / 2;
    for (int64_t i = 0; i < size; i += 16) {
      const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(even + i / 2)));
      const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(odd + i / 2)));
      _mm512_storeu_si512(target + r / 2 * size + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
  return target;
}
#endif

// A computed tile [rows, columns] of floats as the A side of products: `by_row` reduces over columns,
// `by_column` over rows. `stride` is a row of the tile, a multiple of 16. bf16 rounds into the buffers given.
SERVAL_INLINE Strided<float> by_row(const float* tile, int64_t, int64_t, int64_t stride, float*) {
  return {tile, stride, 1};
}
SERVAL_INLINE Strided<float> by_column(const float* tile, int64_t, int64_t, int64_t stride, float*) {
  return {tile, 1, stride};
}
#ifdef SERVAL_ISA_avx512_bf16
SERVAL_INLINE Strided<int32_t> by_row(const float* tile, int64_t rows, int64_t columns, int64_t stride,
                                      int32_t* target) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < columns; i += 16)
      _mm256_storeu_si256((__m256i*)(target + (r * stride + i) / 2),
                          (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(tile + r * stride + i)));
  return {target, stride / 2, 1};
}
// An odd last row is paired with the row after it, which the caller has set to zero.
SERVAL_INLINE Strided<int32_t> by_column(const float* tile, int64_t rows, int64_t columns, int64_t stride,
                                         int32_t* target) {
  for (int64_t r = 0; r < rows; r += 2) {
    const float *even = tile + r * stride, *odd = even + stride;
    for (int64_t i = 0; i < columns; i += 16) {
      const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(even + i)));
      const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(odd + i)));
      _mm512_storeu_si512(target + r / 2 * stride + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
  return {target, 1, stride};
}
#endif

}  // namespace
}  // namespace serval::SERVAL_ISA
