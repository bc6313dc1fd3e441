#include "gemm/gemv_cuda.h"
#include "tensor/gpu.h"

namespace serval {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kWarps = 8, kPack = 8, kAhead = 4;
constexpr int64_t kMostRows = 8;

struct alignas(16) Pack {
  __nv_bfloat162 at[kPack / 2];
};

__device__ __forceinline__ float dot(const Pack& a, const Pack& b, float sum) {
#pragma unroll
  for (int i = 0; i < kPack / 2; ++i) {
    const float2 x = __bfloat1622float2(a.at[i]), y = __bfloat1622float2(b.at[i]);
    sum = fmaf(x.x, y.x, sum);
    sum = fmaf(x.y, y.y, sum);
  }
  return sum;
}

// A warp computes one column of C: its lanes walk along the weight's row, several loads ahead; the rows of A
// come from the caches. The lanes' sums are added in a fixed order.
template <class C, int kRows>
__global__ void __launch_bounds__(kWarps * 32) gemv_kernel(GemmArgs g) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t column = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (column >= g.n) return;
  const auto* weight = reinterpret_cast<const Pack*>(static_cast<const bf16*>(g.b) + column * g.b_stride);
  const auto* a = static_cast<const bf16*>(g.a);
  const int64_t packs = g.k / kPack;
  float sums[kRows] = {};
  for (int64_t first = lane; first < packs; first += 32 * kAhead) {
    Pack w[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int64_t p = first + u * 32;
      w[u] = p < packs ? weight[p] : Pack{};
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int64_t p = first + u * 32;
      if (p >= packs) break;
#pragma unroll
      for (int row = 0; row < kRows; ++row)
        if (row < g.m)
          sums[row] = dot(w[u], *reinterpret_cast<const Pack*>(a + row * g.a_stride + p * kPack), sums[row]);
    }
  }
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    float sum = sums[row];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (lane != 0 || row >= g.m) continue;
    float value = static_cast<float>(g.alpha) * sum;
    if (g.bias != nullptr) value += __bfloat162float(static_cast<const bf16*>(g.bias)[column]);
    C* target = static_cast<C*>(g.c) + row * g.c_stride + column;
    if (g.accumulate) value += static_cast<float>(*target);
    *target = static_cast<C>(value);
  }
}

template <class C>
void launch(const GemmArgs& args, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((args.n + kWarps - 1) / kWarps);
  if (args.m == 1)
    gemv_kernel<C, 1><<<blocks, kWarps * 32, 0, stream>>>(args);
  else if (args.m <= 4)
    gemv_kernel<C, 4><<<blocks, kWarps * 32, 0, stream>>>(args);
  else
    gemv_kernel<C, 8><<<blocks, kWarps * 32, 0, stream>>>(args);
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace

bool gemv_cuda_takes(const GemmArgs& g) {
  const auto aligned = [](const void* data, int64_t stride) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % kPack == 0;
  };
  return g.m <= kMostRows && g.b_transposed && !g.a_transposed && g.a_dtype == DType::bf16 && g.k > 0 &&
         g.k % kPack == 0 && aligned(g.a, g.a_stride) && aligned(g.b, g.b_stride);
}

void gemv_cuda(const GemmArgs& args, void* stream) {
  if (args.c_dtype == DType::f32)
    launch<float>(args, static_cast<cudaStream_t>(stream));
  else
    launch<bf16>(args, static_cast<cudaStream_t>(stream));
}

}  // namespace serval
