// What both passes of bf16 attention share: how documents are cut into panels of 32 query rows, e^x,
// roundings, and rows that are fetched before they are needed.
//
// A panel is 32 tokens of one query head; of a document of at most 16 tokens, the rows of several heads that
// share a key head. Keys are taken 32 at a time as well, so what no row of a panel sees is left out.
#pragma once
#include "gemm/bf16_pack.h"
#include "gemm/scratch.h"
#include "ops/attention/attention_plain.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr float kLog2E = 1.44269504088896341f;

SERVAL_INLINE int64_t round_up(int64_t x, int64_t unit) {
  return (x + unit - 1) / unit * unit;
}

struct KeyRange {
  int64_t begin, end;  // `begin` a multiple of 32
};

// Row head * count + token.
struct Panel {
  int64_t first, count, head, heads;  // tokens [first, first + count) of the document
  SERVAL_INLINE int64_t rows() const { return heads * count; }
};

// The panels of one key head, in ascending order of their tokens.
struct Panels {
  const Heads& h;
  const Document& d;
  int64_t tokens, heads;  // of a panel
  int64_t parts, size;    // panels of the same tokens; all panels
  SERVAL_INLINE Panels(const Heads& of, const Document& in) : h(of), d(in) {
    const bool stacked = d.tokens <= kPanel / 2 && d.tokens > 0;
    tokens = stacked ? d.tokens : kPanel;
    heads = stacked ? smaller(h.group, kPanel / tokens) : 1;
    parts = (h.group + heads - 1) / heads;
    size = (d.tokens + tokens - 1) / tokens * parts;
  }
  SERVAL_INLINE Panel at(int64_t kv, int64_t index) const {
    const int64_t first = index / parts * tokens, head = index % parts * heads;
    return {first, smaller(tokens, d.tokens - first), kv * h.group + head, smaller(heads, h.group - head)};
  }
  // What some row of a panel sees.
  SERVAL_INLINE KeyRange keys(const Panel& p) const {
    const int64_t position = d.past + p.first;
    return {first_key(position, 0, h.window) / kPanel * kPanel, position + p.count};
  }
  // About how long a panel takes: key panels, and what they all have in common.
  SERVAL_INLINE int64_t cost(int64_t index) const {
    const KeyRange range = keys(at(0, index));
    return (range.end - range.begin + kPanel - 1) / kPanel + 2;
  }
  SERVAL_INLINE int64_t cost() const {
    int64_t sum = 0;
    for (int64_t i = 0; i < size; i += parts) sum += parts * cost(i);
    return sum;
  }
};

// 2^x with a relative error below 3e-6; 0 where x is very small, infinite where it is very large.
SERVAL_INLINE __m512 exponential2(__m512 x) {
  const __m512 r = _mm512_maskz_reduce_ps(0xffff, x, 1);  // x - floor(x)
  __m512 p = _mm512_set1_ps(1.353416802e-02f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.201146186e-02f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.414427550e-01f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.930038352e-01f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.000002593e+00f));
  return _mm512_maskz_scalef_ps(0xffff, p, x);
}

// Rows of heads that will be read or written soon. They are fetched into the second cache a few at a time
// between products, so that memory works beside them: a row of a head is a piece of a page of its own, which
// no processor foresees.
class RowQueue {
 public:
  explicit RowQueue(const Heads& h) : bytes_(h.dim * 2) {}
  void clear() { size_ = next_ = left_ = 0; }
  // `count` rows from `row` on, the columns of one head.
  void add(const Operand& operand, int64_t row, int64_t count, int64_t head, bool written = false) {
    if (count <= 0 || size_ == kMost) return;
    const char* const data = reinterpret_cast<const char*>(operand.row<BFloat16>(row)) + head * bytes_;
    ranges_[size_++] = {data, operand.row_stride * 2, count, written};
    left_ += count;
  }
  void add(const Operand& operand, const Document& d, const Panel& p, bool written = false) {
    for (int64_t g = 0; g < p.heads; ++g) add(operand, d.begin + p.first, p.count, p.head + g, written);
  }
  int64_t left() const { return left_; }
  SERVAL_INLINE void fetch(int64_t rows) {
    for (; rows > 0 && left_ > 0; --rows, --left_) {
      Range& range = ranges_[next_];
      for (const char *line = range.data, *const end = line + bytes_; line < end; line += 64) {
        if (range.written)
          asm volatile("prefetchw %0" : : "m"(*line));
        else
          _mm_prefetch(line, _MM_HINT_T1);
      }
      range.data += range.stride;
      if (--range.count == 0) ++next_;
    }
  }

 private:
  static constexpr int64_t kMost = 64;
  struct Range {
    const char* data;
    int64_t stride, count;
    bool written;
  };
  int64_t bytes_, size_ = 0, next_ = 0, left_ = 0;
  Range ranges_[kMost];
};

// Rows of a panel as a packed A: chunks of 32 rows of 32 elements, with zeros past the last row and element.
// `flip`: added to the bits, to change the sign.
SERVAL_INLINE void pack_rows(const Operand& source, const Heads& h, const Document& d, const Panel& p,
                             int64_t dim, uint16_t flip, uint16_t* target) {
  const __m512i sign = _mm512_set1_epi16(static_cast<int16_t>(flip));
  for (int64_t g = 0; g < p.heads; ++g) {
    for (int64_t i = 0; i < p.count; ++i) {
      const BFloat16* const row = source.row<BFloat16>(d.begin + p.first + i) + (p.head + g) * h.dim;
      uint16_t* const to = target + (g * p.count + i) * kChunk;
      for (int64_t c = 0; c < dim; c += kChunk)
        _mm512_storeu_si512(to + c * kPanel,
                            _mm512_xor_si512(sign, _mm512_maskz_loadu_epi16(lanes32(h.dim - c), row + c)));
    }
  }
  for (int64_t r = p.rows(); r < kPanel; ++r)
    for (int64_t c = 0; c < dim; c += kChunk)
      _mm512_storeu_si512(target + c * kPanel + r * kChunk, _mm512_setzero_si512());
}

// The first `count` of 32 elements. Whole vectors are stored without a mask, which some processors do much
// faster.
SERVAL_INLINE void store_elements(__m512i x, int64_t count, BFloat16* target) {
  if (count >= 32)
    _mm512_storeu_si512(target, x);
  else
    _mm512_mask_storeu_epi16(target, lanes32(count), x);
}

// `count` floats times `factor` as bf16.
SERVAL_INLINE void round_row(const float* source, int64_t count, float factor, BFloat16* target) {
  const __m512 f = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < count; i += 32) {
    const __m512i x = to_bf16(_mm512_mul_ps(_mm512_loadu_ps(source + i), f),
                              _mm512_mul_ps(_mm512_loadu_ps(source + i + 16), f));
    store_elements(x, count - i, target + i);
  }
}

// Memory of a thread, for one pass at a time.
Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

// ---- products

// TileUnit::multiply for packed panels and whole chunks. A thread has one at a time; it may be copied.
template <class Unit>
class PanelProducts {
 public:
  PanelProducts() = default;
  PanelProducts(const PanelProducts&) {}
  PanelProducts& operator=(const PanelProducts&) = delete;

  SERVAL_INLINE void multiply(int64_t rows, int64_t columns, const char* a, const char* b, int64_t chunks,
                              float* sums, int64_t sums_row, bool first) {
    unit_.multiply(rows, columns, {a, 64, kChunkBytes}, b, chunks * kChunk, sums, sums_row, first);
  }

 private:
  Unit unit_;
};

}  // namespace
}  // namespace serval::SERVAL_ISA
