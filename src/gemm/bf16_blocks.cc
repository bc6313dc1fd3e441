#include "base/cpu.h"
#include "gemm/bf16_pack.h"
#include "gemm/kernels.h"

namespace serval::SERVAL_ISA {
namespace {

static_assert(kPanel == kBf16Panel && kChunk == kBf16Chunk && kChunkBytes == kBf16ChunkBytes);
constexpr int64_t kBlockFloats = kPanel * kPanel;

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

SERVAL_INLINE void store_row(float* data, __m512 left, __m512 right) {
  _mm512_storeu_ps(data, left);
  _mm512_storeu_ps(data + 16, right);
}
SERVAL_INLINE void store_row(uint16_t* data, __m512 left, __m512 right) {
  _mm512_storeu_si512(data, to_bf16(left, right));
}

// A block of C.
struct Place {
  int64_t row, column, rows, columns;
};

// C = alpha * sums + bias + C for 32 columns, of which those in the masks exist. kPlain: C = sums, all
// columns.
template <class Out, bool kPlain>
void write_rows(const KernelArgs& args, const Place& place, const float* sums) {
  const auto [row, column, rows, columns] = place;
  Out* c = static_cast<Out*>(args.c) + row * args.c_stride + column;
  if (kPlain) {
    for (int64_t r = 0; r < rows; ++r, c += args.c_stride, sums += kPanel)
      store_row(c, _mm512_loadu_ps(sums), _mm512_loadu_ps(sums + 16));
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
void write_to(const KernelArgs& args, const Place& place, const float* sums) {
  const bool plain = args.alpha == 1 && args.bias == nullptr && !args.accumulate && place.columns == kPanel;
  (plain ? write_rows<Out, true> : write_rows<Out, false>)(args, place, sums);
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

// ---- panels

SERVAL_INLINE int64_t all_chunks(const Bf16Block& block) {
  return block.chunks + block.further;
}
SERVAL_INLINE bool is_whole(const Bf16Operand& operand, int64_t panel) {
  return (panel + 1) * kPanel <= operand.lines;
}
// Where the packed chunks of a panel begin: those that are not read in place.
SERVAL_INLINE char* packed_panel(const Bf16Block& block, const Bf16Operand& operand, int64_t panel) {
  return operand.packed + panel * (all_chunks(block) - operand.in_place) * kChunkBytes;
}

struct PanelPieces {
  PanelA first;
  int64_t chunks;  // of the first piece
  PanelA rest;
};
SERVAL_INLINE PanelPieces panel_of_a(const Bf16Block& block, int64_t panel) {
  const PanelA packed = {packed_panel(block, block.a, panel), 64, kChunkBytes};
  if (block.a.in_place == 0 || !is_whole(block.a, panel)) return {packed, all_chunks(block), packed};
  const char* const rows = reinterpret_cast<const char*>(block.a.source + panel * kPanel * block.a.stride);
  return {{rows, block.a.stride * 2, kChunk * 2}, block.a.in_place, packed};
}

// Fetches what comes next while a block is computed, a little with each chunk.
struct Fetches {
  const char* c = nullptr;           // rows of C that this block will be written to
  int64_t c_rows = 0, c_stride = 0;  // bytes
  bool c_wide = false;               // a row is two lines
  const char* sums = nullptr;        // kept sums of the next block
  PanelA a = {};                     // the next panel of A: some of its rows, of so many chunks
  int64_t row0 = 0, row1 = 0, chunks = 0;

  SERVAL_INLINE void operator()(int64_t chunk) const {
    for (int64_t row = 2 * chunk; row < 2 * chunk + 2 && row < c_rows; ++row) {
      fetch_to_write(c + row * c_stride);
      if (c_wide) fetch_to_write(c + row * c_stride + 64);
    }
    if (sums != nullptr && chunk < kBlockFloats * 4 / 128) {
      fetch_to_write(sums + chunk * 128);
      fetch_to_write(sums + chunk * 128 + 64);
    }
    if (chunk < chunks)
      for (int64_t row = row0; row < row1; ++row)
        _mm_prefetch(a.data + row * a.row + chunk * a.chunk, _MM_HINT_T1);
  }

 private:
  SERVAL_INLINE static void fetch_to_write(const char* line) { asm volatile("prefetchw %0" : : "m"(*line)); }
};

template <class Unit>
void multiply_part(const KernelArgs& args, const Bf16Block& block, int64_t row_panel0, int64_t row_panel1,
                   int64_t column_panel0, int64_t column_panel1) {
  alignas(64) float own_sums[kBlockFloats], across[kBlockFloats];
  const int64_t all_columns = (block.b.lines + kPanel - 1) / kPanel;
  const int64_t chunks = all_chunks(block);
  const int64_t elements = block.further > 0 ? chunks * kChunk : block.length;
  const int64_t element_bytes = args.out == Element::f32 ? 4 : 2;
  Unit unit;
  Fetches fetches;
  fetches.c_wide = args.out == Element::f32;
  for (int64_t pass = column_panel0; pass < column_panel1; pass += block.pass_panels) {
    const int64_t pass_end = smaller(pass + block.pass_panels, column_panel1), width = pass_end - pass;
    for (int64_t i = row_panel0; i < row_panel1; ++i) {
      const PanelPieces a = panel_of_a(block, i);
      fetches.chunks = 0;
      if (i + 1 < row_panel1 && is_whole(block.a, i + 1)) {
        const PanelPieces next = panel_of_a(block, i + 1);
        fetches.a = next.first, fetches.chunks = next.chunks;
      }
      for (int64_t j = pass; j < pass_end; ++j) {
        const int64_t rows = smaller(kPanel, block.a.lines - i * kPanel),
                      columns = smaller(kPanel, block.b.lines - j * kPanel);
        Place now{.row = block.row + i * kPanel,
                  .column = block.column + j * kPanel,
                  .rows = rows,
                  .columns = columns};
        if (block.transposed) now = {.row = now.column, .column = now.row, .rows = columns, .columns = rows};
        float* const sums =
            block.sums != nullptr ? block.sums + (i * all_columns + j) * kBlockFloats : own_sums;
        fetches.row0 = kPanel * (j - pass) / width, fetches.row1 = kPanel * (j - pass + 1) / width;
        if (block.last && chunks >= 16) {  // a block of few chunks is done before a line arrives
          fetches.c =
              static_cast<const char*>(args.c) + (now.row * args.c_stride + now.column) * element_bytes;
          fetches.c_stride = args.c_stride * element_bytes, fetches.c_rows = now.rows;
        }
        if (block.sums != nullptr && j + 1 < pass_end)
          fetches.sums = reinterpret_cast<const char*>(sums + kBlockFloats);
        unit.multiply_pieces(rows, columns, a.first, a.chunks, a.rest, packed_panel(block, block.b, j),
                             elements, sums, kPanel, block.first, fetches);
        if (!block.last) continue;
        if (block.transposed) transpose_block(sums, across);
        const auto write = args.out == Element::f32 ? write_to<float> : write_to<uint16_t>;
        write(args, now, block.transposed ? across : sums);
      }
    }
  }
}

// ---- packing

// The further chunks of a panel, from what the pieces say of its lines; zero elsewhere.
template <bool kIsA>
void pack_pieces(const Bf16Operand& operand, int64_t panel, int64_t further, char* target) {
  for (int64_t chunk = 0; chunk < further; ++chunk, target += kChunkBytes) {
    alignas(64) uint16_t elements[kPanel * kChunk] = {};
    const int64_t line0 = operand.line + panel * kPanel, k0 = chunk * kChunk;
    for (int64_t p = 0; p < operand.num_pieces; ++p) {
      const Bf16Piece& piece = operand.pieces[p];
      const int64_t line = piece.line > line0 ? piece.line : line0, k = piece.k > k0 ? piece.k : k0;
      const int64_t lines = smaller(piece.line + piece.lines, line0 + kPanel) - line,
                    length = smaller(piece.k + piece.length, k0 + kChunk) - k;
      if (lines <= 0 || length <= 0) continue;
      const bool across = operand.pieces_across;
      const int64_t row = across ? k : line, column = across ? line : k;  // of the stored matrix
      const uint16_t* from = piece.source + (row - (across ? piece.k : piece.line)) * piece.stride + column -
                             (across ? piece.line : piece.k);
      uint16_t* to =
          elements + (across ? (k - k0) * kPanel + line - line0 : (line - line0) * kChunk + k - k0);
      const int64_t count = across ? length : lines;
      const size_t bytes = static_cast<size_t>(across ? lines : length) * 2;
      for (int64_t r = 0; r < count; ++r, from += piece.stride, to += kChunk)
        __builtin_memcpy(to, from, bytes);
    }
    if (kIsA)
      (operand.pieces_across ? pack_chunk_a<true> : pack_chunk_a<false>)(elements, kChunk, kPanel, kChunk,
                                                                         target);
    else
      (operand.pieces_across ? pack_chunk_b<true> : pack_chunk_b<false>)(elements, kChunk, kPanel, kChunk,
                                                                         target);
  }
}

template <bool kIsA>
void pack(const Bf16Block& block, const Bf16Operand& operand, int64_t panel0, int64_t panel1) {
  const int64_t kept = all_chunks(block) - operand.in_place, bytes = kept * kChunkBytes;
  const auto part = [&](int64_t begin, int64_t end, int64_t chunk0) {
    if (begin >= end) return;
    const auto pack = operand.across ? pack_panels<kIsA, true> : pack_panels<kIsA, false>;
    char* const target = operand.packed - chunk0 * kChunkBytes;
    pack(operand.source, operand.stride, operand.lines, block.length, begin, end, chunk0, block.chunks, bytes,
         target);
    for (int64_t panel = begin; panel < end && block.further > 0; ++panel)
      pack_pieces<kIsA>(operand, panel, block.further, target + panel * bytes + block.chunks * kChunkBytes);
  };
  // Only the last panel may be less than whole; its chunks are all packed.
  const int64_t whole = operand.in_place > 0 ? operand.lines / kPanel : 0;
  part(panel0, smaller(panel1, whole), operand.in_place);
  part(panel0 < whole ? whole : panel0, panel1, 0);
}

}  // namespace

void bf16_pack_a(const Bf16Block& block, int64_t panel0, int64_t panel1) {
  pack<true>(block, block.a, panel0, panel1);
}

void bf16_pack_b(const Bf16Block& block, int64_t panel0, int64_t panel1) {
  pack<false>(block, block.b, panel0, panel1);
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
