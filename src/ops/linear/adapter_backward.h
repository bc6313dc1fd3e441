// v = s_i dy_i B_i and dB_i += dy_i^T u_i of all adapted segments from one read of dy (maths in linear.h; u
// is multiplied by s already). Blocks of 256 rows and some columns leave partial sums, a second kernel adds
// them in order: equal bits on every run.
//   dy [T, N] bf16, u [T, R] bf16, v [T, >= R] bf16 (columns past R are written as zeros), B_i [n_i, r] bf16,
//   dB_i [n_i, r] f32. All segments have one rank r of 16, 32 or 64, and sizes that are multiples of 64; rows
//   begin at multiples of 16 bytes.
#pragma once
#include <algorithm>
#include <cstdint>

#include "tensor/operand.h"

namespace serval {

struct AdapterBackwardSegment {
  int64_t column = 0, size = 0, rank_begin = 0, rank = 0;
  double scale = 0;
  const Operand* b = nullptr;
  const Operand* d_b = nullptr;  // absent where B is frozen
};

struct AdapterBackward {
  static constexpr int kMostSegments = 4;
  const Operand* dy = nullptr;
  const Operand* u = nullptr;
  const Operand* v = nullptr;
  AdapterBackwardSegment segments[kMostSegments];
  int num_segments = 0;
  void* workspace = nullptr;
};

// How the work is cut; a function of sizes alone.
struct AdapterBackwardCut {
  static constexpr int64_t kRows = 256, kColumns = 64, kBlocks = 264;  // two blocks on each of 132 processors
  int64_t row_tiles = 0, chunks_per_block = 0;

  AdapterBackwardCut(int64_t rows, int64_t columns)
      : row_tiles((rows + kRows - 1) / kRows),
        chunks_per_block(std::max<int64_t>(1, (columns / kColumns * row_tiles + kBlocks - 1) / kBlocks)) {}
  int64_t splits(int64_t segment_size) const {
    return (segment_size / kColumns + chunks_per_block - 1) / chunks_per_block;
  }
};

inline bool adapter_backward_rank(int64_t rank) {
  return rank == 16 || rank == 32 || rank == 64;
}
// Scratch bytes for segments of these sizes; `columns`: their sum, `splits`: the sum of Cut::splits.
inline int64_t adapter_backward_bytes(const AdapterBackwardCut& cut, int64_t rows, int64_t columns,
                                      int64_t splits, int64_t rank) {
  return (splits * rows + cut.row_tiles * columns) * rank * static_cast<int64_t>(sizeof(float));
}

bool adapter_backward_takes(const AdapterBackward& call);
void adapter_backward_cuda(const AdapterBackward& call, void* stream);

}  // namespace serval
