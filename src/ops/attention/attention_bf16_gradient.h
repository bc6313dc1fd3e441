// The element-wise part of attention's gradient in bf16: P and dS of 32 query rows and 32 keys from their
// products, in the layouts in which the next products read them; and rounding of sums that lie across.
#pragma once
#include "ops/attention/attention_bf16.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int64_t kBlockFloats = kPanel * kPanel;

// A panel of queries, and the blocks of 32 keys of a span that it sees.
struct GradientRows {
  Panel panel;
  int64_t position;  // of its first token
  int64_t block_begin, block_end;
  bool first, last;     // of its keys lie in the span
  float* dq;            // sums, 32 x 32 for each 32 elements of the head
  float lse[kPanel];    // times log2(e)
  float delta[kPanel];  // rowsum(dO o) times the scale
};

// Sets lse and delta; `grads`: dO of the panel, packed.
inline void load_rows(const Heads& h, const Document& d, const Operand& o, const Operand& lse,
                      const uint16_t* grads, float scale, GradientRows& query) {
  const Panel& p = query.panel;
  for (int64_t r = p.rows(); r < kPanel; ++r) query.lse[r] = query.delta[r] = 0;
  for (int64_t g = 0; g < p.heads; ++g) {
    for (int64_t t = 0; t < p.count; ++t) {
      const int64_t r = g * p.count + t, token = d.begin + p.first + t, head = p.head + g;
      query.lse[r] = lse.row<float>(token)[head] * kLog2E;
      const BFloat16* const out = o.row<BFloat16>(token) + head * h.dim;
      __m512 sum = _mm512_setzero_ps();
      for (int64_t c = 0; c < h.dim; c += kChunk)
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(grads + c * kPanel + r * kChunk),
                               (__m512bh)_mm512_maskz_loadu_epi16(lanes32(h.dim - c), out + c));
      query.delta[r] = _mm512_reduce_add_ps(sum) * scale;
    }
  }
}

struct GradientBlock {
  const float *scores, *products;  // Q K^T and dO V^T, 32 x 32
  char *p, *ds;                    // chunks of B: words of pairs of rows
  char* ds_rows;                   // a chunk of A
};

// The keys from `begin` on that a row sees.
SERVAL_INLINE __mmask32 seen_keys(const GradientRows& query, int64_t begin, int64_t window, int64_t row) {
  if (row >= query.panel.rows()) return 0;  // not computed
  const int64_t position = query.position + row % query.panel.count;
  return lanes32(position + 1 - begin) & ~lanes32(first_key(position, begin, window) - begin);
}

// `begin`: the first of the keys. kMasked: some row does not see all of them, or there are fewer rows.
template <bool kMasked>
__attribute__((noinline)) void gradient_block(const GradientRows& query, int64_t begin, int64_t window,
                                              float scale_by, const GradientBlock& block) {
  const __m512 scale = _mm512_set1_ps(scale_by), scale2 = _mm512_set1_ps(scale_by * kLog2E);
  for (int64_t pair = 0; pair < kPanel; pair += 2) {
    __m512 p[2][2], ds[2][2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const int64_t r = pair + i;
      const __m512 lse = _mm512_set1_ps(query.lse[r]), delta = _mm512_set1_ps(query.delta[r]);
      const __mmask32 seen = kMasked ? seen_keys(query, begin, window, r) : 0;
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const float* const at = block.scores + r * kPanel + half * 16;
        __m512 weight = exponential2(_mm512_fmsub_ps(_mm512_loadu_ps(at), scale2, lse));
        __m512 gradient = _mm512_mul_ps(
            weight, _mm512_fmsub_ps(_mm512_loadu_ps(block.products + r * kPanel + half * 16), scale, delta));
        if (kMasked) {
          const __mmask16 mask = static_cast<__mmask16>(seen >> (16 * half));
          weight = _mm512_maskz_mov_ps(mask, weight), gradient = _mm512_maskz_mov_ps(mask, gradient);
        }
        p[i][half] = weight, ds[i][half] = gradient;
      }
      _mm512_storeu_si512(block.ds_rows + r * 64, to_bf16(ds[i][0], ds[i][1]));
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const int64_t to = pair * 64 + half * 64;
      _mm512_storeu_si512(block.p + to, to_bf16_words(p[0][half], p[1][half]));
      _mm512_storeu_si512(block.ds + to, to_bf16_words(ds[0][half], ds[1][half]));
    }
  }
}

// Sums of [element, key], 32 x 32 for each 32 elements, as `count` rows of `dim` elements.
inline void round_across(const float* sums, int64_t count, int64_t dim, BFloat16* target, int64_t stride) {
  for (int64_t c = 0; c < dim; c += kPanel, sums += kBlockFloats) {
    for (int64_t first = 0; first < count; first += 16) {
      __m512i low[16], high[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) low[i] = _mm512_loadu_si512(sums + i * kPanel + first);
      transpose16(low);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) high[i] = _mm512_loadu_si512(sums + (16 + i) * kPanel + first);
      transpose16(high);
      for (int64_t i = 0; i < smaller(16, count - first); ++i)
        store_elements(to_bf16(_mm512_castsi512_ps(low[i]), _mm512_castsi512_ps(high[i])), dim - c,
                       target + (first + i) * stride + c);
    }
  }
}

}  // namespace
}  // namespace serval::SERVAL_ISA
