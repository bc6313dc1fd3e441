// Products of small bf16 panels with sums in f32, compiled once per instruction set (avx512_bf16, amx).
//
// Operands are cut along k into chunks of 32, with zeros past the end:
//   A panel: up to 32 rows; `row` bytes from a row to the next, `chunk` bytes from a chunk to the next.
//            Packed, a chunk is 32 rows of 64 bytes. Rows of a matrix that lie in memory are a panel as well.
//   B panel: 32 columns; a chunk is 16 rows of 32 words, a word being the elements 2i and 2i + 1 of a column.
//   sums:    rows of `sums_row` floats, 32 columns.
// Every sum runs over k in ascending order and may be left and taken up at any chunk without changing a bit.
//
//   TileUnit unit;                       // one for a run of products; a thread has one at a time
//   unit.multiply(rows, columns, {a, 64, kChunkBytes}, b, elements, sums, 32, /*first=*/true);
//
// multiply_pieces takes A in two pieces, each of whole chunks but for the end of the last, and calls
// each_chunk(chunk) on the way: for prefetches, while the unit computes.
#pragma once
#include <immintrin.h>

#include "tensor/dtype.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int64_t kPanel = 32;                        // rows of an A panel, columns of a B panel
constexpr int64_t kChunk = 32;                        // elements of k in a chunk
constexpr int64_t kChunkBytes = kPanel * kChunk * 2;  // of either operand

struct PanelA {
  const char* data;
  int64_t row, chunk;  // bytes
};

struct NoChunkHook {
  SERVAL_INLINE void operator()(int64_t) const {}
};

#ifndef SERVAL_ISA_amx

// kRows rows by kVectors times 16 columns, the sums in registers. kTight: rows of A are 64 bytes apart.
template <int kRows, int kVectors, bool kTight>
SERVAL_INLINE void multiply_rows(PanelA a, const char* b, int64_t elements, float* sums, int64_t sums_row,
                                 bool first) {
  const int64_t row = kTight ? 64 : a.row;
  __m512 sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + r * sums_row + v * 16);
  for (int64_t left = (elements + 1) / 2; left > 0; left -= 16, a.data += a.chunk) {
    const char* x = a.data;
    for (int64_t pair = left < 16 ? left : 16; pair > 0; --pair, x += 4, b += 128) {
      __m512bh columns[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) columns[v] = (__m512bh)_mm512_loadu_si512(b + v * 64);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        int32_t word;
        __builtin_memcpy(&word, x + r * row, 4);
        const __m512bh left_pair = (__m512bh)_mm512_set1_epi32(word);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left_pair, columns[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(sums + r * sums_row + v * 16, sum[r][v]);
}

template <int kVectors, bool kTight>
__attribute__((noinline)) void multiply_panel(int64_t rows, PanelA a, const char* b, int64_t elements,
                                              float* sums, int64_t sums_row, bool first) {
  const auto advance = [&](int64_t count) {
    rows -= count, a.data += count * (kTight ? 64 : a.row), sums += count * sums_row;
  };
  for (; rows >= 12; advance(12)) multiply_rows<12, kVectors, kTight>(a, b, elements, sums, sums_row, first);
  for (; rows >= 8; advance(8)) multiply_rows<8, kVectors, kTight>(a, b, elements, sums, sums_row, first);
  for (; rows >= 4; advance(4)) multiply_rows<4, kVectors, kTight>(a, b, elements, sums, sums_row, first);
  for (; rows >= 1; advance(1)) multiply_rows<1, kVectors, kTight>(a, b, elements, sums, sums_row, first);
}

class TileUnit {
 public:
  SERVAL_INLINE void multiply(int64_t rows, int64_t columns, PanelA a, const char* b, int64_t elements,
                              float* sums, int64_t sums_row, bool first) {
    if (a.row == 64)
      (columns > 16 ? multiply_panel<2, true> : multiply_panel<1, true>)(rows, a, b, elements, sums, sums_row,
                                                                         first);
    else
      (columns > 16 ? multiply_panel<2, false> : multiply_panel<1, false>)(rows, a, b, elements, sums,
                                                                           sums_row, first);
  }
  template <class EachChunk>
  SERVAL_INLINE void multiply_pieces(int64_t rows, int64_t columns, PanelA a, int64_t chunks, PanelA rest,
                                     const char* b, int64_t elements, float* sums, int64_t sums_row,
                                     bool first, EachChunk& each_chunk) {
    const int64_t all = (elements + kChunk - 1) / kChunk;
    for (int64_t chunk = 0; chunk < all; ++chunk) each_chunk(chunk);
    const int64_t split = chunks * kChunk < elements ? chunks * kChunk : elements;
    if (split > 0) multiply(rows, columns, a, b, split, sums, sums_row, first);
    if (split < elements)
      multiply(rows, columns, rest, b + chunks * kChunkBytes, elements - split, sums, sums_row,
               first && split == 0);
  }
};

#else

// The instructions of the matrix unit. Eight tiles of 16 rows of 64 bytes: sums are 16 x 16 floats, A is 16
// rows of 32 elements, B is 16 rows of 16 words.
struct TileInstructions {
  SERVAL_INLINE void begin() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    asm volatile("ldtilecfg %0" : : "m"(shape) : "memory");
  }
  SERVAL_INLINE void end() { asm volatile("tilerelease" : : : "memory"); }
  template <int kTile>
  SERVAL_INLINE void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  SERVAL_INLINE void load(const void* data, int64_t row_bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(data), "r"(row_bytes), "i"(kTile) : "memory");
  }
  // From the second cache past the first, where more is read than the first holds.
  template <int kTile>
  SERVAL_INLINE void load_stream(const void* data, int64_t row_bytes) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(data), "r"(row_bytes), "i"(kTile) : "memory");
  }
  template <int kTile>
  SERVAL_INLINE void store(void* data, int64_t row_bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(data), "r"(row_bytes), "i"(kTile) : "memory");
  }
  template <int kSum, int kA, int kB>
  SERVAL_INLINE void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
  }
};

// The same in plain code, for processors without the unit: even and odd elements are summed apart, then added
// to each other and to the sum.
struct EmulatedTiles {
  char tiles[8][16][64];

  SERVAL_INLINE void begin() {}
  SERVAL_INLINE void end() {}
  template <int kTile>
  SERVAL_INLINE void zero() {
    __builtin_memset(tiles[kTile], 0, sizeof(tiles[kTile]));
  }
  template <int kTile>
  SERVAL_INLINE void load(const void* data, int64_t row_bytes) {
    for (int row = 0; row < 16; ++row)
      __builtin_memcpy(tiles[kTile][row], static_cast<const char*>(data) + row * row_bytes, 64);
  }
  template <int kTile>
  SERVAL_INLINE void load_stream(const void* data, int64_t row_bytes) {
    load<kTile>(data, row_bytes);
  }
  template <int kTile>
  SERVAL_INLINE void store(void* data, int64_t row_bytes) {
    for (int row = 0; row < 16; ++row)
      __builtin_memcpy(static_cast<char*>(data) + row * row_bytes, tiles[kTile][row], 64);
  }
  template <int kSum, int kA, int kB>
  SERVAL_INLINE void multiply() {
    product(tiles[kSum], tiles[kA], tiles[kB]);
  }

 private:
  static __attribute__((noinline)) void product(char (*sum)[64], const char (*a)[64], const char (*b)[64]) {
    for (int row = 0; row < 16; ++row) {
      float even[16] = {}, odd[16] = {}, total[16];
      for (int pair = 0; pair < 16; ++pair) {
        BFloat16 left[2], right[32];
        __builtin_memcpy(left, a[row] + pair * 4, 4);
        __builtin_memcpy(right, b[pair], 64);
        for (int column = 0; column < 16; ++column) {
          even[column] += static_cast<float>(left[0]) * static_cast<float>(right[2 * column]);
          odd[column] += static_cast<float>(left[1]) * static_cast<float>(right[2 * column + 1]);
        }
      }
      __builtin_memcpy(total, sum[row], 64);
      for (int column = 0; column < 16; ++column) total[column] += even[column] + odd[column];
      __builtin_memcpy(sum[row], total, 64);
    }
  }
};

// Reads 16 or 32 rows of A, whatever `rows` says.
template <class Instructions>
class TileUnitOf {
 public:
  SERVAL_INLINE TileUnitOf() { unit_.begin(); }
  SERVAL_INLINE ~TileUnitOf() { unit_.end(); }
  TileUnitOf(const TileUnitOf&) = delete;
  TileUnitOf& operator=(const TileUnitOf&) = delete;

  SERVAL_INLINE void multiply(int64_t rows, int64_t columns, PanelA a, const char* b, int64_t elements,
                              float* sums, int64_t sums_row, bool first) {
    NoChunkHook nothing;
    by_size<false>(rows, columns, a, (elements + kChunk - 1) / kChunk, a, b, elements, sums, sums_row, first,
                   nothing);
  }
  template <class EachChunk>
  SERVAL_INLINE void multiply_pieces(int64_t rows, int64_t columns, PanelA a, int64_t chunks, PanelA rest,
                                     const char* b, int64_t elements, float* sums, int64_t sums_row,
                                     bool first, EachChunk& each_chunk) {
    // Longer panels would only drive each other out of the first cache.
    if (elements > kShortPanel)
      by_size<true>(rows, columns, a, chunks, rest, b, elements, sums, sums_row, first, each_chunk);
    else
      by_size<false>(rows, columns, a, chunks, rest, b, elements, sums, sums_row, first, each_chunk);
  }

 private:
  static constexpr int64_t kShortPanel = 256;

  template <bool kStream, class EachChunk>
  SERVAL_INLINE void by_size(int64_t rows, int64_t columns, PanelA a, int64_t chunks, PanelA rest,
                             const char* b, int64_t elements, float* sums, int64_t sums_row, bool first,
                             EachChunk& each_chunk) {
    const int64_t all = (elements + kChunk - 1) / kChunk;
    if (chunks > all) chunks = all;
    if (rows > 16)
      columns > 16 ? product<2, 2, kStream>(a, chunks, rest, b, all, sums, sums_row, first, each_chunk)
                   : product<2, 1, kStream>(a, chunks, rest, b, all, sums, sums_row, first, each_chunk);
    else
      columns > 16 ? product<1, 2, kStream>(a, chunks, rest, b, all, sums, sums_row, first, each_chunk)
                   : product<1, 1, kStream>(a, chunks, rest, b, all, sums, sums_row, first, each_chunk);
  }

  template <int kTile, bool kStream>
  SERVAL_INLINE void load(const void* data, int64_t row_bytes) {
    if (kStream)
      unit_.template load_stream<kTile>(data, row_bytes);
    else
      unit_.template load<kTile>(data, row_bytes);
  }

  // The first `split` chunks of A lie in `a`, the others in `rest`.
  template <int kRows, int kColumns, bool kStream, class EachChunk>
  SERVAL_INLINE void product(PanelA a, int64_t split, PanelA rest, const char* b, int64_t chunks, float* sums,
                             int64_t sums_row, bool first, EachChunk& each_chunk) {
    float* const lower = sums + 16 * sums_row;
    const int64_t sums_bytes = sums_row * 4;
    if (first) {
      unit_.template zero<0>();
      if (kColumns == 2) unit_.template zero<1>();
      if (kRows == 2) unit_.template zero<2>();
      if (kRows == 2 && kColumns == 2) unit_.template zero<3>();
    } else {
      unit_.template load<0>(sums, sums_bytes);
      if (kColumns == 2) unit_.template load<1>(sums + 16, sums_bytes);
      if (kRows == 2) unit_.template load<2>(lower, sums_bytes);
      if (kRows == 2 && kColumns == 2) unit_.template load<3>(lower + 16, sums_bytes);
    }
    for (int64_t chunk = 0, end = split; chunk < chunks; end = chunks, a = rest) {
      for (; chunk < end; ++chunk, a.data += a.chunk, b += kChunkBytes) {
        load<6, kStream>(b, 128);
        load<4, kStream>(a.data, a.row);
        unit_.template multiply<0, 4, 6>();
        each_chunk(chunk);
        if (kColumns == 2) {
          load<7, kStream>(b + 64, 128);
          unit_.template multiply<1, 4, 7>();
        }
        if (kRows == 2) {
          load<5, kStream>(a.data + 16 * a.row, a.row);
          unit_.template multiply<2, 5, 6>();
          if (kColumns == 2) unit_.template multiply<3, 5, 7>();
        }
      }
    }
    unit_.template store<0>(sums, sums_bytes);
    if (kColumns == 2) unit_.template store<1>(sums + 16, sums_bytes);
    if (kRows == 2) unit_.template store<2>(lower, sums_bytes);
    if (kRows == 2 && kColumns == 2) unit_.template store<3>(lower + 16, sums_bytes);
  }

  Instructions unit_;
};

#endif

}  // namespace
}  // namespace serval::SERVAL_ISA
