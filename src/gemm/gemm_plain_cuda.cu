#include "gemm/gemm_plain_cuda.h"
#include "tensor/gpu.h"

namespace serval {
namespace {

constexpr int kTile = 16;

template <class T>
__device__ float read(const void* data, int64_t at) {
  return static_cast<float>(static_cast<const T*>(data)[at]);
}

// One thread an element of C, tiles of A and B in shared memory.
template <class AB, class C>
__global__ void plain_kernel(GemmArgs g) {
  __shared__ float a_tile[kTile][kTile + 1], b_tile[kTile][kTile + 1];
  const int64_t row = int64_t{blockIdx.y} * kTile + threadIdx.y,
                column = int64_t{blockIdx.x} * kTile + threadIdx.x;
  float sum = 0;
  for (int64_t k0 = 0; k0 < g.k; k0 += kTile) {
    const int64_t ka = k0 + threadIdx.x, kb = k0 + threadIdx.y;
    a_tile[threadIdx.y][threadIdx.x] =
        row < g.m && ka < g.k ? read<AB>(g.a, g.a_transposed ? ka * g.a_stride + row : row * g.a_stride + ka)
                              : 0.0f;
    b_tile[threadIdx.y][threadIdx.x] =
        column < g.n && kb < g.k
            ? read<AB>(g.b, g.b_transposed ? column * g.b_stride + kb : kb * g.b_stride + column)
            : 0.0f;
    __syncthreads();
    for (int i = 0; i < kTile; ++i) sum += a_tile[threadIdx.y][i] * b_tile[i][threadIdx.x];
    __syncthreads();
  }
  if (row >= g.m || column >= g.n) return;
  float value = static_cast<float>(g.alpha) * sum;
  if (g.bias != nullptr) value += read<AB>(g.bias, column);
  C* target = static_cast<C*>(g.c) + row * g.c_stride + column;
  if (g.accumulate) value += static_cast<float>(*target);
  *target = static_cast<C>(value);
}

}  // namespace

void gemm_plain_cuda(const GemmArgs& args, void* stream) {
  const dim3 block(kTile, kTile), grid(static_cast<unsigned>((args.n + kTile - 1) / kTile),
                                       static_cast<unsigned>((args.m + kTile - 1) / kTile));
  const auto s = static_cast<cudaStream_t>(stream);
  if (args.a_dtype == DType::f32)
    plain_kernel<float, float><<<grid, block, 0, s>>>(args);
  else if (args.c_dtype == DType::f32)
    plain_kernel<__nv_bfloat16, float><<<grid, block, 0, s>>>(args);
  else
    plain_kernel<__nv_bfloat16, __nv_bfloat16><<<grid, block, 0, s>>>(args);
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace serval
