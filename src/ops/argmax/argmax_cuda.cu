// The largest element of each row on the GPU: one block a row, for rows are few and one block reads half a
// megabyte in microseconds.
#include "ops/common/cuda_kernel.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 1024;
constexpr int kAhead = 4;  // packs that a thread reads before it compares

// NaN is the largest of all, at index -1. The order is total, so the result does not depend on how elements
// are grouped.
struct Best {
  float value;
  int32_t index;
};
__device__ __forceinline__ Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}
__device__ __forceinline__ Best candidate(float value, int64_t index) {
  return value != value ? Best{INFINITY, -1} : Best{value, static_cast<int32_t>(index)};
}
__device__ __forceinline__ Best best_of_warp(Best best) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    best = better(best, {__shfl_xor_sync(0xffffffffu, best.value, offset),
                         __shfl_xor_sync(0xffffffffu, best.index, offset)});
  return best;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    argmax_kernel(const T* x, int64_t stride, int64_t size, const int32_t* count, int32_t* out,
                  int64_t out_stride) {
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  if (row >= valid_rows(count, gridDim.x)) {
    if (thread == 0) out[row * out_stride] = 0;
    return;
  }
  const T* const from = x + row * stride;
  const int64_t packs = size / N;  // exact: see the launch
  Best best{-INFINITY, INT32_MAX};
  for (int64_t begin = thread; begin < packs; begin += kAhead * kThreads) {
    Pack<T, N> held[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (begin + k * kThreads < packs) held[k] = load<T, N>(from + (begin + k * kThreads) * N);
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t pack = begin + k * kThreads;
      if (pack >= packs) continue;
#pragma unroll
      for (int i = 0; i < N; ++i) best = better(best, candidate(to_float(held[k].at[i]), pack * N + i));
    }
  }
  __shared__ Best of_warps[kThreads / 32];
  best = best_of_warp(best);
  if (thread % 32 == 0) of_warps[thread / 32] = best;
  __syncthreads();
  if (thread >= 32) return;
  best = best_of_warp(of_warps[thread]);
  if (thread == 0) out[row * out_stride] = best.index;
}

template <class T>
void start(const Operand& x, const Operand& out, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(x.rows);
  if (aligned_to(x, 16))
    argmax_kernel<T, kPack<T>><<<blocks, kThreads, 0, stream>>>(x.as<T>(), x.row_stride, x.row_size, x.count,
                                                                out.as<int32_t>(), out.row_stride);
  else
    argmax_kernel<T, 1><<<blocks, kThreads, 0, stream>>>(x.as<T>(), x.row_stride, x.row_size, x.count,
                                                         out.as<int32_t>(), out.row_stride);
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace

void argmax_rows_cuda(const KernelContext& c, void* stream) {
  const Operand& x = c.input(0);
  if (x.rows == 0) return;
  SERVAL_CUDA_DISPATCH(x.dtype, start, x, c.output(0), as_stream(stream));
}

}  // namespace serval
