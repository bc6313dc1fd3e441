// Our own product kernels, compiled once per instruction set (see serval_isa_sources). This header holds
// plain data and declarations only: an inline function here could reach older processors in a newer
// instruction set.
#pragma once
#include <cstdint>

#include "gemm/gemm_term.h"

namespace serval {

enum class Element : uint8_t { f32, bf16 };

// As GemmArgs, for f32 and bf16.
struct KernelArgs {
  int64_t m, n, k;
  const void *a, *b, *bias;
  void* c;
  int64_t a_stride, b_stride, c_stride;
  Element in, out, bias_type;
  bool a_transposed, b_transposed, accumulate;
  float alpha;
  const GemmTerm* terms = nullptr;  // own_bf16_product alone takes them
  int64_t num_terms = 0;
  bool terms_right_transposed = false;
};

constexpr int64_t kFewRows = 8;

// Blocks that stay in the caches, and what they take of scratch memory: packed A, packed B, and sums.
constexpr int64_t kBlockM = 192, kBlockN = 128, kBlockK = 256;
constexpr int64_t kBlockScratchBytes = 4 * (kBlockM * kBlockK + kBlockK * kBlockN + kBlockM * kBlockN);

// few_rows: the columns [n0, n1) of C for m <= kFewRows, A as [m,k] and B as [n,k]; reads B once, row by row.
// block: the part [m0, m1) x [n0, n1) of C for any operands. Both run on the calling thread alone; the order
// of each sum does not depend on the part.
#define SERVAL_DECLARE_GEMM_KERNELS(isa)                                                                  \
  namespace isa {                                                                                         \
  void gemm_few_rows(const KernelArgs& args, int64_t n0, int64_t n1);                                     \
  void gemm_block(const KernelArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1, void* scratch); \
  }
SERVAL_DECLARE_GEMM_KERNELS(generic)
SERVAL_DECLARE_GEMM_KERNELS(avx2)
SERVAL_DECLARE_GEMM_KERNELS(avx512)
SERVAL_DECLARE_GEMM_KERNELS(avx512_bf16)
#undef SERVAL_DECLARE_GEMM_KERNELS

// ---- bf16 products in packed panels (bf16_tiles.h): a block of C that a team of threads computes in two
// steps. Both operands are packed, then each thread multiplies a rectangle of panels.

constexpr int64_t kBf16Panel = 32;  // rows or columns of a panel
constexpr int64_t kBf16Chunk = 32;  // elements of k of a chunk
constexpr int64_t kBf16ChunkBytes = kBf16Panel * kBf16Chunk * 2;

// Elements of further chunks, behind those of k: lines [line, line + lines), elements [k, k + length) of
// them.
struct Bf16Piece {
  const uint16_t* source;
  int64_t stride, line, lines, k, length;
};

// One operand of a block, from its first row (column) and first k on.
struct Bf16Operand {
  const uint16_t* source;
  int64_t stride;
  bool across;       // stored [k][line], not [line][k]
  int64_t lines;     // rows of A, columns of B
  int64_t in_place;  // so many first chunks of whole panels are read where they are (A alone)
  char* packed;      // the other chunks, panel by panel
  int64_t line;      // the number of its first row (column), as the pieces count them
  const Bf16Piece* pieces;
  int64_t num_pieces;
  bool pieces_across;
};

struct Bf16Block {
  Bf16Operand a, b;
  int64_t length;       // of k
  int64_t chunks;       // of k, the last one perhaps not whole
  int64_t further;      // chunks behind those, of the pieces
  int64_t pass_panels;  // columns of one pass, whose B stays in the second cache
  bool first, last;     // of the blocks along k
  float* sums;      // kept between blocks along k, 32 x 32 for each pair of panels; nullptr where one is all
  bool transposed;  // the block is one of C^T
  int64_t row, column;  // where it begins in C, or in C^T
};

#define SERVAL_DECLARE_BF16_KERNELS(isa)                                                                     \
  namespace isa {                                                                                            \
  void bf16_pack_a(const Bf16Block& block, int64_t panel0, int64_t panel1);                                  \
  void bf16_pack_b(const Bf16Block& block, int64_t panel0, int64_t panel1);                                  \
  void bf16_multiply(const KernelArgs& args, const Bf16Block& block, int64_t row_panel0, int64_t row_panel1, \
                     int64_t column_panel0, int64_t column_panel1);                                          \
  }
SERVAL_DECLARE_BF16_KERNELS(avx512_bf16)
SERVAL_DECLARE_BF16_KERNELS(amx)
#undef SERVAL_DECLARE_BF16_KERNELS

}  // namespace serval
