// Tiles of bf16 for attention: the interface of FloatTiles, products by the panels of gemm/bf16_tiles.h.
#pragma once
#include "gemm/bf16_pack.h"
#include "ops/attention/attention_tiles.h"

namespace serval::SERVAL_ISA {
namespace {

SERVAL_INLINE void copy_row(const BFloat16* source, int64_t size, int64_t padded, uint16_t* target) {
  for (int64_t i = 0; i < padded; i += 32)
    _mm512_storeu_si512(target + i, _mm512_maskz_loadu_epi16(lanes32(size - i), source + i));
}

SERVAL_INLINE void store_computed(uint16_t* target, Vec x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

template <class Unit>
struct Bf16Tiles {
  using Element = BFloat16;
  using Word = uint16_t;
  static constexpr int64_t kUnit = 32;
  static constexpr bool kRounds = true;

  SERVAL_INLINE static TileSize forward_size(int64_t dim) {
    return dim <= 128 ? TileSize{128, 128} : TileSize{64, 64};
  }
  SERVAL_INLINE static TileSize backward_size(int64_t dim) {
    return dim <= 128 ? TileSize{64, 128} : TileSize{64, 64};
  }

  Unit unit;

  void pack_across(const BFloat16* source, int64_t stride, int64_t count, int64_t size, PackedSize to,
                   uint16_t*, uint16_t* target) {
    pack_panels<false, false>(reinterpret_cast<const uint16_t*>(source), stride, count, size, 0,
                              to.columns / kPanel, 0, to.length / kChunk, panel_words(to) * 2,
                              reinterpret_cast<char*>(target));
  }
  void pack_reduce(const BFloat16* source, int64_t stride, int64_t count, int64_t size, PackedSize to,
                   uint16_t* target) {
    pack_panels<false, true>(reinterpret_cast<const uint16_t*>(source), stride, size, count, 0,
                             to.columns / kPanel, 0, to.length / kChunk, panel_words(to) * 2,
                             reinterpret_cast<char*>(target));
  }
  const uint16_t* pack_rows(const uint16_t* rows, int64_t count, PackedSize to, uint16_t* target) {
    pack_reduce(reinterpret_cast<const BFloat16*>(rows), to.columns, count, to.columns, to, target);
    return target;
  }

  // Rows up to a whole chunk are taken as zero.
  Strided<uint16_t> by_column(const uint16_t* tile, int64_t rows, int64_t columns, int64_t stride,
                              uint16_t* target) {
    const int64_t padded = (rows + kChunk - 1) / kChunk * kChunk;
    for (int64_t r = 0; r < padded; r += kChunk) {
      for (int64_t c = 0; c < columns; c += 16) {
        __m512i x[16];
        load_pairs(tile + r * stride + c, stride, 16, rows - r, x);
        transpose16(x);
        store_words(x, reinterpret_cast<char*>(target + c * padded + r), padded * 2);
      }
    }
    return {target, padded, 1};
  }

  void product(int64_t rows, int64_t columns, int64_t length, Strided<uint16_t> a, const uint16_t* b,
               PackedSize size, float* c, int64_t c_row, bool accumulate) {
    for (int64_t r = 0; r < rows; r += kPanel)
      for (int64_t n = 0; n < columns; n += kPanel)
        unit.multiply(rows - r < kPanel ? rows - r : kPanel, kPanel, panel(a, r),
                      reinterpret_cast<const char*>(b + n / kPanel * panel_words(size)), length,
                      c + r * c_row + n, c_row, !accumulate);
  }
  void product_exactly(int64_t rows, int64_t columns, int64_t length, Strided<uint16_t> a, const uint16_t* b,
                       PackedSize size, float* c, int64_t c_row, bool accumulate) {
    const int64_t whole = rows / kPanel * kPanel, rest = rows - whole;
    product(whole, columns, length, a, b, size, c, c_row, accumulate);
    if (rest == 0) return;
    alignas(64) float sums[kPanel * kPanel];
    c += whole * c_row;
    for (int64_t n = 0; n < columns; n += kPanel) {
      if (accumulate)
        for (int64_t r = 0; r < rest; ++r) __builtin_memcpy(sums + r * kPanel, c + r * c_row + n, kPanel * 4);
      unit.multiply(rest, kPanel, panel(a, whole),
                    reinterpret_cast<const char*>(b + n / kPanel * panel_words(size)), length, sums, kPanel,
                    !accumulate);
      for (int64_t r = 0; r < rest; ++r) __builtin_memcpy(c + r * c_row + n, sums + r * kPanel, kPanel * 4);
    }
  }

 private:
  SERVAL_INLINE static int64_t panel_words(PackedSize size) { return size.length * kPanel; }
  SERVAL_INLINE static PanelA panel(Strided<uint16_t> a, int64_t row) {
    return {reinterpret_cast<const char*>(a.data + row * a.row), a.row * 2, kChunk * 2};
  }
};

}  // namespace
}  // namespace serval::SERVAL_ISA
