// Packing of bf16 matrices into the panels of bf16_tiles.h, by AVX-512. "Lines" are the rows of A or the
// columns of B; a source is stored with its lines as rows ([line][k]) or across ([k][line]). What lies past
// the last line or the last k of a panel is zero and is never read from the source.
#pragma once
#include "gemm/bf16_tiles.h"

namespace serval::SERVAL_ISA {
namespace {

// Without <algorithm>, whose inline functions could reach older processors in this instruction set.
SERVAL_INLINE int64_t smaller(int64_t x, int64_t y) {
  return x < y ? x : y;
}

// The lowest `count` lanes, none below zero and all above 32 (16).
SERVAL_INLINE __mmask32 lanes32(int64_t count) {
  return count >= 32 ? 0xffffffffu : count <= 0 ? 0 : (1u << count) - 1;
}
SERVAL_INLINE __mmask16 lanes16(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : count <= 0 ? 0 : (1u << count) - 1);
}

// GCC 12 warns of an undefined vector in the forms without a mask; the code is the same.
template <int kLanes>
SERVAL_INLINE __m512i shuffle_lanes(__m512i a, __m512i b) {
  return _mm512_maskz_shuffle_i32x4(0xffff, a, b, kLanes);
}
SERVAL_INLINE __m512i unpacklo_epi32(__m512i a, __m512i b) {
  return _mm512_maskz_unpacklo_epi32(0xffff, a, b);
}
SERVAL_INLINE __m512i unpackhi_epi32(__m512i a, __m512i b) {
  return _mm512_maskz_unpackhi_epi32(0xffff, a, b);
}
SERVAL_INLINE __m512i unpacklo_epi64(__m512i a, __m512i b) {
  return _mm512_maskz_unpacklo_epi64(0xff, a, b);
}
SERVAL_INLINE __m512i unpackhi_epi64(__m512i a, __m512i b) {
  return _mm512_maskz_unpackhi_epi64(0xff, a, b);
}

// bf16 of two vectors of 16, the first one in the lower half.
SERVAL_INLINE __m512i to_bf16(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}
// The same as words, each of an element of `even` and its neighbour in `odd`.
SERVAL_INLINE __m512i to_bf16_words(__m512 even, __m512 odd) {
  const __m512i weave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                         22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_maskz_permutexvar_epi16(~0u, weave, to_bf16(even, odd));
}

// The transpose of 16 x 16 words.
SERVAL_INLINE void transpose16(__m512i (&x)[16]) {
  __m512i y[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = unpacklo_epi32(x[i], x[i + 1]), b = unpackhi_epi32(x[i], x[i + 1]);
    const __m512i c = unpacklo_epi32(x[i + 2], x[i + 3]), d = unpackhi_epi32(x[i + 2], x[i + 3]);
    y[i] = unpacklo_epi64(a, c), y[i + 1] = unpackhi_epi64(a, c);
    y[i + 2] = unpacklo_epi64(b, d), y[i + 3] = unpackhi_epi64(b, d);
  }
  // y[4 g + j] holds, in 128-bit lane l, column 4 l + j of rows 4 g ... 4 g + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i a = shuffle_lanes<0x88>(y[j], y[4 + j]), b = shuffle_lanes<0xdd>(y[j], y[4 + j]);
    const __m512i c = shuffle_lanes<0x88>(y[8 + j], y[12 + j]), d = shuffle_lanes<0xdd>(y[8 + j], y[12 + j]);
    x[j] = shuffle_lanes<0x88>(a, c), x[8 + j] = shuffle_lanes<0xdd>(a, c);
    x[4 + j] = shuffle_lanes<0x88>(b, d), x[12 + j] = shuffle_lanes<0xdd>(b, d);
  }
}

// 16 lines from row-stored source: line i's elements [0, length) of one chunk.
SERVAL_INLINE void load_lines(const uint16_t* source, int64_t stride, int64_t lines, int64_t length,
                              __m512i (&x)[16]) {
  if (lines >= 16 && length >= kChunk) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) x[i] = _mm512_loadu_si512(source + i * stride);
    return;
  }
  const __mmask32 elements = lanes32(length);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i)
    x[i] = i < lines ? _mm512_maskz_loadu_epi16(elements, source + i * stride) : _mm512_setzero_si512();
}

// 16 lines from a source stored across: words of the pairs (k, k + 1) of one chunk, x[pair] over lines.
SERVAL_INLINE void load_pairs(const uint16_t* source, int64_t stride, int64_t lines, int64_t length,
                              __m512i (&x)[16]) {
  const __mmask16 mask = lanes16(lines);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    const uint16_t* const even = source + 2 * i * stride;
    const __m256i low = 2 * i < length ? _mm256_maskz_loadu_epi16(mask, even) : _mm256_setzero_si256();
    const __m256i high =
        2 * i + 1 < length ? _mm256_maskz_loadu_epi16(mask, even + stride) : _mm256_setzero_si256();
    x[i] = _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
  }
}

SERVAL_INLINE void store_words(const __m512i (&x)[16], char* target, int64_t row_bytes) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(target + i * row_bytes, x[i]);
}

// One chunk of up to 32 lines as a chunk of an A panel. `source`: the chunk's first element.
template <bool kAcross>
SERVAL_INLINE void pack_chunk_a(const uint16_t* source, int64_t stride, int64_t lines, int64_t length,
                                char* target) {
  for (int64_t half = 0; half < 2; ++half) {
    const int64_t first = 16 * half;
    __m512i x[16];
    if (kAcross) {
      load_pairs(source + first, stride, lines - first, length, x);
      transpose16(x);
    } else {
      load_lines(source + first * stride, stride, lines - first, length, x);
    }
    store_words(x, target + half * 1024, 64);
  }
}

// The same as a chunk of a B panel.
template <bool kAcross>
SERVAL_INLINE void pack_chunk_b(const uint16_t* source, int64_t stride, int64_t lines, int64_t length,
                                char* target) {
  if (!kAcross) {
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = 16 * half;
      __m512i x[16];
      load_lines(source + first * stride, stride, lines - first, length, x);
      transpose16(x);
      store_words(x, target + half * 64, 128);
    }
    return;
  }
  // Words of lines 0 to 15 and 16 to 31 from an even and an odd row.
  const __m512i left = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7,
                                        38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i right = _mm512_add_epi16(left, _mm512_set1_epi16(16));
  const __mmask32 mask = lanes32(lines);
  const bool whole = lines >= kPanel && length >= kChunk;
#pragma GCC unroll 4
  for (int64_t pair = 0; pair < 16; ++pair) {
    const uint16_t* const row = source + 2 * pair * stride;
    __m512i even, odd;
    if (whole) {
      even = _mm512_loadu_si512(row), odd = _mm512_loadu_si512(row + stride);
    } else {
      even = 2 * pair < length ? _mm512_maskz_loadu_epi16(mask, row) : _mm512_setzero_si512();
      odd = 2 * pair + 1 < length ? _mm512_maskz_loadu_epi16(mask, row + stride) : _mm512_setzero_si512();
    }
    _mm512_storeu_si512(target + pair * 128, _mm512_permutex2var_epi16(even, left, odd));
    _mm512_storeu_si512(target + pair * 128 + 64, _mm512_permutex2var_epi16(even, right, odd));
  }
}

// Chunks [chunk0, chunk1) of panels [panel0, panel1) of `lines` lines and `length` elements. Panels lie
// `panel_bytes` apart. The source is read along its rows, few at a time.
template <bool kIsA, bool kAcross>
void pack_panels(const uint16_t* source, int64_t stride, int64_t lines, int64_t length, int64_t panel0,
                 int64_t panel1, int64_t chunk0, int64_t chunk1, int64_t panel_bytes, char* target) {
  const auto pack = [&](int64_t panel, int64_t chunk) {
    const int64_t line = panel * kPanel, k = chunk * kChunk;
    const uint16_t* const from = source + (kAcross ? k * stride + line : line * stride + k);
    char* const to = target + panel * panel_bytes + chunk * kChunkBytes;
    if (kIsA)
      pack_chunk_a<kAcross>(from, stride, lines - line, length - k, to);
    else
      pack_chunk_b<kAcross>(from, stride, lines - line, length - k, to);
  };
  if (kAcross) {
    for (int64_t chunk = chunk0; chunk < chunk1; ++chunk)
      for (int64_t panel = panel0; panel < panel1; ++panel) pack(panel, chunk);
  } else {
    for (int64_t panel = panel0; panel < panel1; ++panel)
      for (int64_t chunk = chunk0; chunk < chunk1; ++chunk) pack(panel, chunk);
  }
}

}  // namespace
}  // namespace serval::SERVAL_ISA
