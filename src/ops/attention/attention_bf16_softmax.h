// The softmax of a panel of query rows, taken up block by block of 32 keys (Milakov and Gimelshein, 2018), in
// powers of two. The exponent that rows are kept relative to, `most`, follows the largest score only when
// that is 2^8 times larger, which is seldom after the first block.
//
//   SoftmaxRows softmax;                            // softmax.clear()
//   if (exceeds<false>(block, softmax)) raise<false>(block, softmax, sums, dim);
//   weigh<false>(block, softmax, weights);          // weights: a chunk of A
#pragma once
#include "ops/attention/attention_bf16.h"

namespace serval::SERVAL_ISA {
namespace {

struct SoftmaxRows {
  alignas(64) float most[kPanel];
  alignas(64) float total[kPanel][16];  // lane by lane: the sum of 2^(score - most)
  void clear() {
    for (float& x : most) x = -3e38f;
    for (auto& lanes : total) _mm512_store_ps(lanes, _mm512_setzero_ps());
  }
};

// Products of queries and keys: rows of 32.
struct ScoreBlock {
  const float* products;
  int64_t rows;
  float scale;            // to powers of two; at least zero
  const __mmask32* seen;  // the keys that a row sees, where not all rows see all (kMasked)
};

// The largest of two vectors over the lanes that are seen.
template <bool kMasked>
SERVAL_INLINE __m512 largest(const ScoreBlock& block, int64_t row) {
  __m512 a = _mm512_loadu_ps(block.products + row * kPanel),
         b = _mm512_loadu_ps(block.products + row * kPanel + 16);
  if (kMasked) {
    const __m512 none = _mm512_set1_ps(-3e38f);
    a = _mm512_mask_blend_ps(static_cast<__mmask16>(block.seen[row]), none, a);
    b = _mm512_mask_blend_ps(static_cast<__mmask16>(block.seen[row] >> 16), none, b);
  }
  return _mm512_max_ps(a, b);
}

// Is some score more than 2^8 times `most` of its row?
template <bool kMasked>
SERVAL_INLINE bool exceeds(const ScoreBlock& block, const SoftmaxRows& softmax) {
  const __m512 scale = _mm512_set1_ps(block.scale), slack = _mm512_set1_ps(8);
  __mmask16 any = 0;
  for (int64_t row = 0; row < block.rows; ++row) {
    const __m512 most = _mm512_set1_ps(softmax.most[row]);
    const __m512 above = _mm512_fmsub_ps(largest<kMasked>(block, row), scale, most);
    any = static_cast<__mmask16>(any | _mm512_cmp_ps_mask(above, slack, _CMP_GT_OQ));
  }
  return any != 0;
}

// Sixteen vectors, joined lane by lane with their neighbours: lane i is that of x[i].
template <class Join>
SERVAL_INLINE __m512 reduce16(__m512i (&x)[16], Join join) {
  transpose16(x);
#pragma GCC unroll 4
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      x[i] = _mm512_castps_si512(join(_mm512_castsi512_ps(x[i]), _mm512_castsi512_ps(x[i + half])));
  return _mm512_castsi512_ps(x[0]);
}

// `most` of the rows that exceed it becomes the largest score of the block; what was summed up is made
// relative to it: totals, and `sums`, rows of `dim` floats, if there are any.
template <bool kMasked>
__attribute__((noinline)) void raise(const ScoreBlock& block, SoftmaxRows& softmax, float* sums,
                                     int64_t dim) {
  for (int64_t first = 0; first < block.rows; first += 16) {
    __m512i tops[16];
    for (int64_t i = 0; i < 16; ++i)
      tops[i] = first + i < block.rows ? _mm512_castps_si512(largest<kMasked>(block, first + i))
                                       : _mm512_castps_si512(_mm512_set1_ps(-3e38f));
    const __m512 top = reduce16(tops, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); });
    const __m512 here = _mm512_mul_ps(top, _mm512_set1_ps(block.scale));
    const __m512 before = _mm512_load_ps(softmax.most + first), above = _mm512_sub_ps(here, before);
    const __mmask16 changed = _mm512_cmp_ps_mask(above, _mm512_set1_ps(8), _CMP_GT_OQ);
    _mm512_mask_store_ps(softmax.most + first, changed, here);
    alignas(64) float factors[16];
    _mm512_store_ps(factors, exponential2(_mm512_sub_ps(before, here)));
    for (unsigned rows = changed; rows != 0; rows &= rows - 1) {
      const int64_t i = __builtin_ctz(rows), row = first + i;
      const __m512 factor = _mm512_set1_ps(factors[i]);
      _mm512_store_ps(softmax.total[row], _mm512_mul_ps(_mm512_load_ps(softmax.total[row]), factor));
      for (float *x = sums + row * dim, *const end = x + dim; sums != nullptr && x < end; x += 16)
        _mm512_storeu_ps(x, _mm512_mul_ps(_mm512_loadu_ps(x), factor));
    }
  }
}

// The weights 2^(score - most).
template <bool kMasked>
SERVAL_INLINE void weigh(const ScoreBlock& block, SoftmaxRows& softmax, uint16_t* weights) {
  const __m512 scale = _mm512_set1_ps(block.scale);
  for (int64_t row = 0; row < block.rows; ++row) {
    const float* const x = block.products + row * kPanel;
    const __m512 most = _mm512_set1_ps(softmax.most[row]);
    __m512 a = exponential2(_mm512_fmsub_ps(_mm512_loadu_ps(x), scale, most));
    __m512 b = exponential2(_mm512_fmsub_ps(_mm512_loadu_ps(x + 16), scale, most));
    if (kMasked) {
      a = _mm512_maskz_mov_ps(static_cast<__mmask16>(block.seen[row]), a);
      b = _mm512_maskz_mov_ps(static_cast<__mmask16>(block.seen[row] >> 16), b);
    }
    const __m512 total = _mm512_add_ps(_mm512_load_ps(softmax.total[row]), _mm512_add_ps(a, b));
    _mm512_store_ps(softmax.total[row], total);
    _mm512_storeu_si512(weights + row * kChunk, to_bf16(a, b));
  }
}

// The natural logarithm of a normal number; error at most 2^-22 of the larger of it and 1.
SERVAL_INLINE __m512 logarithm(__m512 x) {
  const __m512 m = _mm512_maskz_getmant_ps(0xffff, x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
  const __m512 one = _mm512_set1_ps(1);
  __m512 exponent = _mm512_maskz_getexp_ps(0xffff, x);  // of x in [1, 2): one less where m is below 1
  exponent = _mm512_mask_add_ps(exponent, _mm512_cmp_ps_mask(m, one, _CMP_LT_OQ), exponent, one);
  const __m512 s = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one)), square = _mm512_mul_ps(s, s);
  __m512 p = _mm512_set1_ps(2.0f / 9);
  p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.0f / 7));
  p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.0f / 5));
  p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.0f / 3));
  p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2));
  return _mm512_fmadd_ps(exponent, _mm512_set1_ps(0.693147180559945f), _mm512_mul_ps(p, s));
}

// What sums are multiplied with, and the logarithms of the sums of exponentials, of all rows.
SERVAL_INLINE void finish(const SoftmaxRows& softmax, float* factors, float* log_sums) {
  for (int64_t first = 0; first < kPanel; first += 16) {
    __m512i lanes[16];
    for (int64_t i = 0; i < 16; ++i) lanes[i] = _mm512_load_si512(softmax.total[first + i]);
    const __m512 total = reduce16(lanes, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
    _mm512_storeu_ps(factors + first, _mm512_div_ps(_mm512_set1_ps(1), total));
    const __m512 most = _mm512_load_ps(softmax.most + first);
    _mm512_storeu_ps(log_sums + first,
                     _mm512_fmadd_ps(most, _mm512_set1_ps(0.693147180559945f), logarithm(total)));
  }
}

}  // namespace
}  // namespace serval::SERVAL_ISA
