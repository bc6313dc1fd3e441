#include "base/cpu.h"
#include "gemm/bf16_pack.h"
#include "gemm/kernels.h"

namespace serval::SERVAL_ISA {
namespace {

static_assert(kPanel == kBf16Panel && kChunk == kBf16Chunk && kChunkBytes == kBf16ChunkBytes);
constexpr int64_t kBlockFloats = kPanel * kPanel;

inline int64_t smaller(int64_t x, int64_t y) {
  return x < y ? x : y;
}

// ---- from sums to C

SERVAL_INLINE __m512 widen(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
SERVAL_INLINE __m512 load_elements(const float* data, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, data);
}
SERVAL_INLINE __m512 load_elements(const uint16_t* data, __mmask16 mask) {
  return widen(_mm256_maskz_loadu_epi16(mask, data));
}
// Whole vectors are stored without a mask, which some processors do much faster.
SERVAL_INLINE void store_elements(float* data, __mmask16 mask, __m512 x) {
  if (mask == 0xffff)
    _mm512_storeu_ps(data, x);
  else
    _mm512_mask_storeu_ps(data, mask, x);
}
SERVAL_INLINE void store_elements(uint16_t* data, __mmask16 mask, __m512 x) {
  const __m256i halves = (__m256i)_mm512_cvtneps_pbh(x);
  if (mask == 0xffff)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(data), halves);
  else
    _mm256_mask_storeu_epi16(data, mask, halves);
}

// C = alpha * sums + bias + C for 32 columns, of which those in the masks exist. kPlain: C = sums, all
// columns.
template <class Out, bool kPlain>
void write_rows(const KernelArgs& args, int64_t row, int64_t column, int64_t rows, int64_t columns,
                const float* sums) {
  Out* c = static_cast<Out*>(args.c) + row * args.c_stride + column;
  if (kPlain) {
    for (int64_t r = 0; r < rows; ++r, c += args.c_stride, sums += kPanel)
      for (int v = 0; v < 2; ++v) store_elements(c + v * 16, 0xffff, _mm512_loadu_ps(sums + v * 16));
    return;
  }
  const __mmask16 masks[2] = {lanes16(columns), lanes16(columns - 16)};
  const __m512 alpha = _mm512_set1_ps(args.alpha);
  __m512 bias[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  if (args.bias != nullptr)
    for (int v = 0; v < 2; ++v)
      bias[v] = args.bias_type == Element::f32
                    ? load_elements(static_cast<const float*>(args.bias) + column + v * 16, masks[v])
                    : load_elements(static_cast<const uint16_t*>(args.bias) + column + v * 16, masks[v]);
  for (int64_t r = 0; r < rows; ++r, c += args.c_stride, sums += kPanel) {
    for (int v = 0; v < 2; ++v) {
      if (masks[v] == 0) continue;
      __m512 x = _mm512_mul_ps(_mm512_loadu_ps(sums + v * 16), alpha);
      if (args.bias != nullptr) x = _mm512_add_ps(x, bias[v]);
      if (args.accumulate) x = _mm512_add_ps(x, load_elements(c + v * 16, masks[v]));
      store_elements(c + v * 16, masks[v], x);
    }
  }
}

template <class Out>
void write_to(const KernelArgs& args, int64_t row, int64_t column, int64_t rows, int64_t columns,
              const float* sums) {
  const bool plain = args.alpha == 1 && args.bias == nullptr && !args.accumulate && columns == kPanel;
  (plain ? write_rows<Out, true> : write_rows<Out, false>)(args, row, column, rows, columns, sums);
}

void transpose_block(const float* from, float* to) {
  for (int r = 0; r < kPanel; r += 16) {
    for (int c = 0; c < kPanel; c += 16) {
      __m512i x[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) x[i] = _mm512_loadu_si512(from + (r + i) * kPanel + c);
      transpose16(x);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + (c + i) * kPanel + r, x[i]);
    }
  }
}

void write_block(const KernelArgs& args, bool transposed, int64_t row, int64_t column, int64_t rows,
                 int64_t columns, const float* sums) {
  alignas(64) float across[kBlockFloats];
  if (transposed) {
    transpose_block(sums, across);
    sums = across;
    const int64_t r = row, n = rows;
    row = column, rows = columns, column = r, columns = n;
  }
  if (args.out == Element::f32)
    write_to<float>(args, row, column, rows, columns, sums);
  else
    write_to<uint16_t>(args, row, column, rows, columns, sums);
}

// Fetches the lines of C that a block will be written to, while its sums are computed; worth it where that
// takes a while.
SERVAL_INLINE void prefetch_block(const KernelArgs& args, bool transposed, int64_t row, int64_t column,
                                  int64_t rows, int64_t columns) {
  if (transposed) {
    const int64_t r = row, n = rows;
    row = column, rows = columns, column = r, columns = n;
  }
  const int64_t element = args.out == Element::f32 ? 4 : 2, bytes = columns * element;
  const char* line = static_cast<const char*>(args.c) + (row * args.c_stride + column) * element;
  for (int64_t r = 0; r < rows; ++r, line += args.c_stride * element) {
    asm volatile("prefetchw %0" : : "m"(*line));
    asm volatile("prefetchw %0" : : "m"(line[bytes - 1]));
    if (bytes > 64) asm volatile("prefetchw %0" : : "m"(line[64]));
  }
}

// ---- panels

// A whole panel of a direct A lies in memory up to its last whole chunk.
SERVAL_INLINE bool reads_in_place(const Bf16Block& block, int64_t panel) {
  return block.direct && (panel + 1) * kPanel <= block.a.lines;
}
SERVAL_INLINE int64_t chunks_in_place(const Bf16Block& block) {
  return block.length / kChunk;
}

// A panel of A times one of B.
template <class Unit>
SERVAL_INLINE void multiply_panels(Unit& unit, const Bf16Block& block, int64_t row_panel, int64_t rows,
                                   int64_t columns, const char* b, float* sums, bool first) {
  const char* packed = block.a.packed + row_panel * block.chunks * kChunkBytes;
  int64_t length = block.length;
  if (const int64_t whole = chunks_in_place(block); whole > 0 && reads_in_place(block, row_panel)) {
    const char* const rows_of_a =
        reinterpret_cast<const char*>(block.a.source + row_panel * kPanel * block.a.stride);
    unit.multiply(rows, columns, {rows_of_a, block.a.stride * 2, kChunk * 2}, b, whole * kChunk, sums, kPanel,
                  first);
    if (whole == block.chunks) return;
    first = false;
    packed += whole * kChunkBytes, b += whole * kChunkBytes, length -= whole * kChunk;
  }
  unit.multiply(rows, columns, {packed, 64, kChunkBytes}, b, length, sums, kPanel, first);
}

template <class Unit>
void multiply_part(const KernelArgs& args, const Bf16Block& block, int64_t row_panel0, int64_t row_panel1,
                   int64_t column_panel0, int64_t column_panel1) {
  alignas(64) float own_sums[kBlockFloats];
  const int64_t all_columns = (block.b.lines + kPanel - 1) / kPanel;
  const int64_t panel_bytes = block.chunks * kChunkBytes;
  Unit unit;
  for (int64_t pass = column_panel0; pass < column_panel1; pass += block.pass_panels) {
    const int64_t pass_end = smaller(pass + block.pass_panels, column_panel1);
    for (int64_t i = row_panel0; i < row_panel1; ++i) {
      const int64_t rows = smaller(kPanel, block.a.lines - i * kPanel);
      // The next panel of A comes nearer, a piece with each column of the pass.
      const bool fetches = !block.direct && i + 1 < row_panel1;
      const char *next = block.a.packed + (i + 1) * panel_bytes, *const end =
                                                                     next + (fetches ? panel_bytes : 0);
      const int64_t step = panel_bytes / (pass_end - pass) + 64;
      for (int64_t j = pass; j < pass_end; ++j) {
        const int64_t columns = smaller(kPanel, block.b.lines - j * kPanel);
        const int64_t row = block.row + i * kPanel, column = block.column + j * kPanel;
        float* const sums =
            block.sums != nullptr ? block.sums + (i * all_columns + j) * kBlockFloats : own_sums;
        if (block.last && block.chunks >= 16)
          prefetch_block(args, block.transposed, row, column, rows, columns);
        for (const char* const upto = next + step; next < upto && next < end; next += 64)
          _mm_prefetch(next, _MM_HINT_T1);
        multiply_panels(unit, block, i, rows, columns, block.b.packed + j * panel_bytes, sums, block.first);
        if (block.last) write_block(args, block.transposed, row, column, rows, columns, sums);
      }
    }
  }
}

}  // namespace

void bf16_pack_a(const Bf16Block& block, int64_t panel0, int64_t panel1) {
  const Bf16Operand& a = block.a;
  const int64_t bytes = block.chunks * kChunkBytes;
  const auto pack = a.across ? pack_panels<true, true> : pack_panels<true, false>;
  const int64_t whole = block.direct ? a.lines / kPanel : 0, in_place = smaller(panel1, whole);
  if (panel0 < in_place)
    pack(a.source, a.stride, a.lines, block.length, panel0, in_place, chunks_in_place(block), block.chunks,
         bytes, a.packed);
  const int64_t begin = panel0 < in_place ? in_place : panel0;
  if (begin < panel1)
    pack(a.source, a.stride, a.lines, block.length, begin, panel1, 0, block.chunks, bytes, a.packed);
}

void bf16_pack_b(const Bf16Block& block, int64_t panel0, int64_t panel1) {
  const Bf16Operand& b = block.b;
  (b.across ? pack_panels<false, true> : pack_panels<false, false>)(b.source, b.stride, b.lines, block.length,
                                                                    panel0, panel1, 0, block.chunks,
                                                                    block.chunks * kChunkBytes, b.packed);
}

void bf16_multiply(const KernelArgs& args, const Bf16Block& block, int64_t row_panel0, int64_t row_panel1,
                   int64_t column_panel0, int64_t column_panel1) {
#ifdef SERVAL_ISA_amx
  if (amx_is_emulated())
    return multiply_part<TileUnitOf<EmulatedTiles>>(args, block, row_panel0, row_panel1, column_panel0,
                                                    column_panel1);
  multiply_part<TileUnitOf<TileInstructions>>(args, block, row_panel0, row_panel1, column_panel0,
                                              column_panel1);
#else
  multiply_part<TileUnit>(args, block, row_panel0, row_panel1, column_panel0, column_panel1);
#endif
}

}  // namespace serval::SERVAL_ISA
