// The head of bf16 on processors with bf16 products, where its weight is not trained: logits are never kept.
// The vocabulary is gone over in blocks. A block's logits (f32) become e^(logit - reference), rounded to
// bf16, while they are in the cache; these times the block's rows of the weight add up to the gradient of
// hidden in f32, which the sum of the exponentials divides at the end. So all rows of a chunk read the weight
// once from memory.
//
// The vocabulary is cut into segments with sums of their own and the rows into panels. Threads take parts of
// either, and no bit depends on who takes what.
//
// In each segment a row has a reference, the largest of its first 32 logits there. Where a later one exceeds
// it by far, the reference is raised and what was computed with the old one is scaled. The label's
// exponential is left out of the products: its gradient, probability minus one, comes in at the end,
// unrounded.
//
//   if (head_uses_tiles(dtype, trains_weight)) head_tiles(tiles, workspace);  // one chunk of label rows
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace serval {

// Whether calls of this type run here on this processor (cpu_isa()).
bool head_uses_tiles(DType dtype, bool trains_weight);

struct HeadTiles {
  const uint16_t *hidden = nullptr, *weight = nullptr;  // [., hidden_size], [vocab_size, hidden_size]
  int64_t hidden_stride = 0, weight_stride = 0;
  int64_t rows = 0, vocab_size = 0, hidden_size = 0;
  const int32_t *label_rows = nullptr, *labels = nullptr;   // [rows]: rows of hidden; valid labels
  const float *row_weights = nullptr, *upstream = nullptr;  // the factors of the gradient, as in SoftmaxArgs
  int64_t upstream_stride = 1;
  uint16_t* d_hidden = nullptr;  // out: the labelled rows; nullptr: no gradient
  int64_t d_hidden_stride = 0;
  double* nll = nullptr;       // out, [rows]
  int32_t* correct = nullptr;  // out, [rows]: 1 where the label has the largest logit
};

void head_tiles(const HeadTiles& tiles, void* workspace);
// Grows with the rows.
int64_t head_tiles_workspace_bytes(int64_t rows, int64_t vocab_size, int64_t hidden_size,
                                   bool gives_d_hidden);

// ---- Between head_tiles.cc and the kernels of head_tiles_cpu.cc. Panels and chunks: gemm/bf16_tiles.h.

constexpr int64_t kHeadPanel = 32, kMostHeadSegments = 4;
// Rows of hidden that are taken together. The matrix unit has room for the sums of 3 x 2 tiles of 16, which
// load less than 2 x 2.
constexpr int64_t head_panel_rows(bool has_matrix_unit) {
  return has_matrix_unit ? 48 : 32;
}

// P: panel_rows.
struct HeadTileMemory {
  int64_t panel_rows = 0;
  int64_t row_panels = 0;                       // of P rows
  int64_t vocab_panels = 0, width_chunks = 0;   // of 32 of the vocabulary, of the hidden size
  int64_t segments = 0, block_panels = 0;       // of the vocabulary; block_panels: at most
  int64_t group_bytes = 0;                      // of the weight that are packed at once
  char* hidden = nullptr;                       // B panels [row_panels][width_chunks] of chunks
  char* exponentials = nullptr;                 // A panels [seats][row_panels][block_panels] of chunks
  float* products = nullptr;                    // [segments][row_panels][width_chunks][P][32]
  float *reference = nullptr, *most = nullptr;  // [segments][row_panels][P]; the largest logit so far
  double* total = nullptr;                      // the same: sum of the exponentials
  float* label_logit = nullptr;                 // [row_panels][P]
  int32_t* labels = nullptr;                    // [row_panels][P]; -1 past the last row
  int64_t bytes = 0;
};

// What one thread computes. A seat is where it keeps the exponentials of a block.
struct HeadTileRange {
  int64_t row_panel0, row_panel1, segment0, segment1, seat;
};

// In this order: pack the row panels; multiply, with group_bytes of memory for the packed weight; finish
// the rows.
#define SERVAL_DECLARE_HEAD_TILES(isa)                                                                 \
  namespace isa {                                                                                      \
  void head_pack_hidden(const HeadTiles& tiles, const HeadTileMemory& memory, int64_t panel0,          \
                        int64_t panel1);                                                               \
  void head_multiply(const HeadTiles& tiles, const HeadTileMemory& memory, const HeadTileRange& range, \
                     char* packed);                                                                    \
  void head_finish(const HeadTiles& tiles, const HeadTileMemory& memory, int64_t row0, int64_t row1);  \
  }
SERVAL_DECLARE_HEAD_TILES(avx512_bf16)
SERVAL_DECLARE_HEAD_TILES(amx)
#undef SERVAL_DECLARE_HEAD_TILES

}  // namespace serval
