// Tiles in shared memory and tensor cores (sm_80 and newer), for kernels of 128 threads. Only .cu files
// include it.
//
// A tile is rows of kDim bf16 in shared memory, kDim a multiple of 64; what a row lacks is zeros. The 16-byte
// chunks of row r stand at chunk ^ (r % 8), so that the eight rows that ldmatrix reads at once lie in
// different banks.
#pragma once
#include "ops/common/cuda_kernel.h"

namespace serval::cuda {

constexpr int kTileRows = 64, kTileThreads = 128;  // a warp owns 16 rows

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// 16 bytes to shared memory, or zeros: then `from` is not read.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most kPending groups of this thread's copies are under way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

template <int kDim>
struct Tile {
  static constexpr int kChunks = kDim / 8, kRowBytes = kDim * 2;

  static __device__ __forceinline__ uint32_t at(int row, int chunk) {
    return static_cast<uint32_t>(row * kRowBytes + ((chunk ^ (row & 7)) << 4));
  }
  // Rows [0, rows) of `dim` columns; zeros elsewhere.
  template <int kRows>
  static __device__ __forceinline__ void load(uint32_t tile, const bf16* from, int64_t stride, int rows,
                                              int dim) {
    constexpr int kStep = kTileThreads / kChunks;  // rows that all threads copy at once
    const int first = static_cast<int>(threadIdx.x) / kChunks,
              chunk = static_cast<int>(threadIdx.x) % kChunks;
    if (chunk * 8 >= dim) rows = 0;
    const bf16* at_row = from + first * stride + chunk * 8;
#pragma unroll
    for (int i = 0; i < kRows; i += kStep) {
      copy_async(tile + at(first + i, chunk), at_row, first + i < rows);
      at_row += kStep * stride;
    }
  }
  // Where this lane's part of the 16 x 16 block at row 0 and column 16 * block stands; xor does not disturb
  // the swizzle. by_rows: a block of A, or of B that is read transposed; by_columns: of B as it stands.
  static __device__ __forceinline__ uint32_t by_rows(int block) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return at(lane % 16, lane / 16) ^ static_cast<uint32_t>(block * 32);
  }
  static __device__ __forceinline__ uint32_t by_columns(int block) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return at(lane % 8 + lane / 16 * 8, lane / 8 % 2) ^ static_cast<uint32_t>(block * 32);
  }
};

__device__ __forceinline__ void load_matrix(uint32_t (&r)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}
__device__ __forceinline__ void load_matrix_transposed(uint32_t (&r)[4], uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

// c [16, 8] += a [16, 16] b [16, 8]. Of c a lane has columns 2 * (lane % 4) and the next of rows lane / 4
// (elements 0, 1) and lane / 4 + 8 (elements 2, 3).
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace serval::cuda
