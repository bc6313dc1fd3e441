// Products of tiles of floats held in thread-local memory, compiled once per instruction set. Tiles are
// "rows" (A of a product) or packed (B of a product):
//   C[rows, columns] (+)= sum over i < length of A[row * a.row + i * a.step] * B[i, column]
#pragma once
#include <immintrin.h>

#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {
namespace {

#ifdef SERVAL_ISA_avx2
constexpr int kLanes = 8, kMicroVectors = 2;  // lanes of a vector; vectors of a micro-tile's row
#else
constexpr int kLanes = 16, kMicroVectors = 4;
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
// The lower and the upper half of a vector, joined by `join`, down to one lane.
template <class Join>
SERVAL_INLINE float reduce(Vec x, Join join) {
#ifdef SERVAL_ISA_avx2
  const __m256 y = (__m256)x;
#else
  const __m256 upper = (__m256)_mm512_maskz_extractf64x4_pd(0xf, (__m512d)x, 1);
  const __m256 y = join(_mm512_castps512_ps256((__m512)x), upper);
#endif
  const __m256 quarter = join(y, _mm256_permute2f128_ps(y, y, 1));
  const __m256 two = join(quarter, _mm256_shuffle_ps(quarter, quarter, 0x4E));
  return _mm256_cvtss_f32(join(two, _mm256_shuffle_ps(two, two, 0xB1)));
}
SERVAL_INLINE float sum_of(Vec x) {
  return reduce(x, [](__m256 a, __m256 b) { return a + b; });
}
SERVAL_INLINE float max_of(Vec x) {
  return reduce(x, [](__m256 a, __m256 b) { return _mm256_max_ps(a, b); });
}
// exponential() of kernel_math.h for a vector; the power of two is added to the exponent as an integer. The
// arguments are at most about zero where scores are sound; others must not wrap into small numbers.
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
  p = p * r * r + (r + 1.0f);
  return (Vec)((IntVec)p + ((IntVec)shifted << 23));
}

// The A side of a product; `step` is from one element of the reduced dimension to the next.
template <class Word>
struct Strided {
  const Word* data;
  int64_t row, step;
};

// One micro-tile, its sums in registers; the unrolled loops let the compiler take the array apart.
template <int kRows, int kVectors>
SERVAL_INLINE void micro_product(Strided<float> a, const float* b, int64_t b_step, int64_t steps, float* c,
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
      const float left = a.data[r * a.row + step * a.step];
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) sum[r][n] = sum[r][n] + left * columns[n];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) store_vec(c + r * c_row + n * kLanes, sum[r][n]);
}

template <int kVectors>
__attribute__((noinline)) void product_panel(int64_t rows, Strided<float> a, const float* b, int64_t b_step,
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

// target[column][row] = source[row][column], 8 x 8 at a time; both sides multiples of 8.
inline void transpose(const float* source, int64_t rows, int64_t columns, int64_t source_row, float* target,
                      int64_t target_row) {
  for (int64_t r = 0; r < rows; r += 8) {
    for (int64_t c = 0; c < columns; c += 8) {
      __m256 x[8], y[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) x[i] = _mm256_loadu_ps(source + (r + i) * source_row + c);
#pragma GCC unroll 2
      for (int i = 0; i < 8; i += 4) {
        const __m256 a = _mm256_unpacklo_ps(x[i], x[i + 1]), b = _mm256_unpackhi_ps(x[i], x[i + 1]);
        const __m256 d = _mm256_unpacklo_ps(x[i + 2], x[i + 3]), e = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
        y[i] = _mm256_shuffle_ps(a, d, 0x44), y[i + 1] = _mm256_shuffle_ps(a, d, 0xEE);
        y[i + 2] = _mm256_shuffle_ps(b, e, 0x44), y[i + 3] = _mm256_shuffle_ps(b, e, 0xEE);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        _mm256_storeu_ps(target + (c + i) * target_row + r, _mm256_permute2f128_ps(y[i], y[i + 4], 0x20));
        _mm256_storeu_ps(target + (c + i + 4) * target_row + r, _mm256_permute2f128_ps(y[i], y[i + 4], 0x31));
      }
    }
  }
}

// What B was packed to: elements along the reduced dimension and columns, padded with zeros.
struct PackedSize {
  int64_t length, columns;
};

// The most query rows of a block and the keys of a tile: what fits a thread's scratch and its caches.
struct TileSize {
  int64_t rows, keys;
};

// Tiles of floats. T is what lies in the tensors.
template <class T>
struct FloatTiles {
  using Element = T;
  static constexpr int64_t kUnit = 16;  // sizes of buffers are multiples of it

  SERVAL_INLINE static TileSize forward_size(int64_t dim) { return {dim <= 128 ? 96 : 40, 64}; }
  SERVAL_INLINE static TileSize backward_size(int64_t dim) {
    return dim <= 128 ? TileSize{64, 64} : TileSize{32, 32};
  }

  // Rows of `size` elements as B: `pack_across` reduces over the elements, `pack_reduce` over the rows.
  // `spare` has room for them all.
  void pack_across(const T* source, int64_t stride, int64_t count, int64_t size, PackedSize to, float* spare,
                   float* target) {
    pack_reduce(source, stride, count, size, {to.columns, to.length}, spare);
    transpose(spare, to.columns, to.length, to.length, target, to.columns);
  }
  void pack_reduce(const T* source, int64_t stride, int64_t count, int64_t size, PackedSize to,
                   float* target) {
    for (int64_t r = 0; r < count; ++r)
      copy_row(source + r * stride, size, to.columns, target + r * to.columns);
    for (int64_t i = count * to.columns; i < to.length * to.columns; ++i) target[i] = 0;
  }
  // Buffers of C hold multiples of kUnit columns, of which more than asked for may be written.
  void product(int64_t rows, int64_t columns, int64_t length, Strided<float> a, const float* b,
               PackedSize size, float* c, int64_t c_row, bool accumulate) {
    int64_t vectors = (columns + kLanes - 1) / kLanes;
    for (; vectors >= kMicroVectors;
         vectors -= kMicroVectors, b += kMicroVectors * kLanes, c += kMicroVectors * kLanes)
      product_panel<kMicroVectors>(rows, a, b, size.columns, length, c, c_row, accumulate);
    if (vectors == 1) product_panel<1>(rows, a, b, size.columns, length, c, c_row, accumulate);
#ifndef SERVAL_ISA_avx2
    if (vectors == 2) product_panel<2>(rows, a, b, size.columns, length, c, c_row, accumulate);
    if (vectors == 3) product_panel<3>(rows, a, b, size.columns, length, c, c_row, accumulate);
#endif
  }
};

}  // namespace
}  // namespace serval::SERVAL_ISA
