// Building blocks of the attention kernels on a GPU: documents, masks, products of tiles. Only .cu files
// include it.
#pragma once
#include <climits>

#include "ops/common/tile_cuda.h"

namespace serval::cuda {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// Heads and the mask of a call.
struct AttentionShape {
  int32_t heads, kv_heads, group, dim;
  int32_t window;  // at most kUnlimited, so that sums with positions do not overflow
  float scale;
  static constexpr int32_t kUnlimited = 1 << 30;

  __device__ __forceinline__ int32_t first_key(int32_t query, int32_t begin) const {
    return max(begin, query - window + 1);
  }
  // end: of the document.
  __device__ __forceinline__ int32_t last_query(int32_t key, int32_t end) const {
    return min(end - 1, key + window - 1);
  }
};
inline AttentionShape attention_shape(const Attributes& a) {
  const int64_t heads = a.integer("heads"), kv_heads = a.integer("kv_heads"), window = a.integer("window");
  const int64_t limit = AttentionShape::kUnlimited;
  return {static_cast<int32_t>(heads),
          static_cast<int32_t>(kv_heads),
          static_cast<int32_t>(heads / kv_heads),
          static_cast<int32_t>(a.integer("head_dim")),
          static_cast<int32_t>(window > 0 && window < limit ? window : limit),
          static_cast<float>(a.number("scale"))};
}

// The packed documents; how many are valid is known on the device.
struct PackedDocuments {
  const int32_t* cu;
  const int32_t* count;  // of the boundaries; nullptr: all
  int32_t boundaries, capacity;

  __device__ __forceinline__ int32_t valid() const {
    return static_cast<int32_t>(valid_rows(count, boundaries)) - 1;
  }
  // Rows that belong to a document.
  __device__ __forceinline__ int32_t rows() const {
    const int32_t documents = valid();
    return documents > 0 ? min(cu[documents], capacity) : 0;
  }
  // The document of a row below rows(): the last that begins at or before it.
  __device__ __forceinline__ int32_t of(int32_t row) const {
    int32_t low = 0, high = valid() - 1;
    while (low < high) {
      const int32_t middle = (low + high + 1) / 2;
      if (cu[middle] <= row)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }
};
inline PackedDocuments packed_documents(const Operand& cu, int64_t capacity) {
  return {cu.as<int32_t>(), cu.count, static_cast<int32_t>(cu.rows), static_cast<int32_t>(capacity)};
}

template <class T>
struct AttentionRowsOf {
  T* data;
  int64_t stride;
  __device__ __forceinline__ T* row(int64_t index) const { return data + index * stride; }
};
template <class T>
AttentionRowsOf<T> rows_of(const Operand& x) {
  return {x.as<T>(), x.row_stride};
}

// 2^x; 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float minus_infinity() {
  return __int_as_float(0xff800000);
}

// c [16, 8 kBlocks] = A B^T: 16 rows of a tile that begin at `a` with the first rows of tile `b`.
template <int kDim, int kBlocks>
__device__ __forceinline__ void product_of_rows(float (&c)[kBlocks][4], uint32_t a, uint32_t b) {
#pragma unroll
  for (int n = 0; n < kBlocks; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) c[n][e] = 0;
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    uint32_t rows[4];
    load_matrix(rows, a + Tile<kDim>::by_rows(k));
#pragma unroll
    for (int n = 0; n < kBlocks / 2; ++n) {
      uint32_t columns[4];
      load_matrix(columns, b + Tile<kDim>::by_columns(k) + n * 16 * Tile<kDim>::kRowBytes);
      multiply_add(c[2 * n], rows, columns[0], columns[1]);
      multiply_add(c[2 * n + 1], rows, columns[2], columns[3]);
    }
  }
}

// c [16, kColumns] += W B: weights in the layout of a product's result, rounded to bf16, with rows of a tile
// whose columns begin at `b`.
template <int kDim, int kColumns, int kBlocks>
__device__ __forceinline__ void product_with_weights(float (&c)[kColumns / 8][4],
                                                     const float (&weights)[kBlocks][4], uint32_t b) {
#pragma unroll
  for (int k = 0; k < kBlocks / 2; ++k) {
    const uint32_t rows[4] = {pack_bf16(weights[2 * k][0], weights[2 * k][1]),
                              pack_bf16(weights[2 * k][2], weights[2 * k][3]),
                              pack_bf16(weights[2 * k + 1][0], weights[2 * k + 1][1]),
                              pack_bf16(weights[2 * k + 1][2], weights[2 * k + 1][3])};
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t columns[4];
      load_matrix_transposed(columns, b + Tile<kDim>::by_rows(n) + k * 16 * Tile<kDim>::kRowBytes);
      multiply_add(c[2 * n], rows, columns[0], columns[1]);
      multiply_add(c[2 * n + 1], rows, columns[2], columns[3]);
    }
  }
}

// A warp's rows of sums, times `factors` of rows lane / 4 and lane / 4 + 8, through its own rows of a tile to
// rows [0, rows) and columns [0, columns) of `to`. No other warp may use those rows of the tile.
template <int kDim, int kColumns>
__device__ __forceinline__ void store_rows(const float (&c)[kColumns / 8][4], float factor0, float factor1,
                                           unsigned char* tile, const AttentionRowsOf<bf16>& to, int rows,
                                           int columns) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int row = warp_row + lane / 4;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
    unsigned char* const at = tile + lane % 4 * 4;
    *reinterpret_cast<uint32_t*>(at + Tile<kDim>::at(row, n)) =
        pack_bf16(c[n][0] * factor0, c[n][1] * factor0);
    *reinterpret_cast<uint32_t*>(at + Tile<kDim>::at(row + 8, n)) =
        pack_bf16(c[n][2] * factor1, c[n][3] * factor1);
  }
  __syncwarp();
  constexpr int kChunks = kColumns / 8;
#pragma unroll
  for (int i = 0; i < 16 * kChunks / 32; ++i) {
    const int item = i * 32 + lane, r = warp_row + item / kChunks, chunk = item % kChunks;
    if (r < rows && chunk * 8 < columns)
      *reinterpret_cast<uint4*>(to.row(r) + chunk * 8) =
          *reinterpret_cast<const uint4*>(tile + Tile<kDim>::at(r, chunk));
  }
}

// Shared memory of a block beyond what every kernel has must be asked for.
template <class Kernel>
void allow_shared_memory(Kernel kernel, int bytes) {
  SERVAL_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
}

}  // namespace serval::cuda
