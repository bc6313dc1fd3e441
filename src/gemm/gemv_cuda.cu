#include "gemm/gemv_cuda.h"
#include "tensor/gpu_overlap.h"

namespace serval {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kWarps = 8, kPack = 8;
constexpr int64_t kMostRows = 8;
// Of each row of the weight, while the kernel before is still running: about 20 MB of all that start at once.
constexpr int64_t kPrefetchedBytes = 4096;

// 16 bytes hold kPack numbers. Even and odd ones are summed apart.
__device__ __forceinline__ void add_products(float2& sum, const uint4& a, const uint4& b) {
  const uint32_t x[4] = {a.x, a.y, a.z, a.w}, y[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum.x = fmaf(__uint_as_float(x[i] << 16), __uint_as_float(y[i] << 16), sum.x);
    sum.y = fmaf(__uint_as_float(x[i] & 0xffff0000u), __uint_as_float(y[i] & 0xffff0000u), sum.y);
  }
}

// A warp computes one column of C: its lanes walk along the weight's row, kAhead loads ahead; the rows of A
// come from the caches. The lanes' sums are added in a fixed order.
template <class C, int kRows>
__global__ void __launch_bounds__(kWarps * 32) gemv_kernel(GemmArgs g) {
  constexpr int kAhead = kRows == 1 ? 8 : 4;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t column = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const auto* weight = reinterpret_cast<const uint4*>(static_cast<const bf16*>(g.b) + column * g.b_stride);
  if (lane == 0 && column < g.n)
    prefetch_to_cache(weight,
                      static_cast<uint32_t>(min(g.k * static_cast<int64_t>(sizeof(bf16)), kPrefetchedBytes)));
  await_previous();
  if (column >= g.n) return;
  const auto* a = static_cast<const bf16*>(g.a);
  const int packs = static_cast<int>(g.k / kPack);
  float2 sums[kRows] = {};
  for (int first = lane; first < packs; first += 32 * kAhead) {
    uint4 w[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int p = first + u * 32;
      w[u] = p < packs ? __ldcs(weight + p) : uint4{};
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row >= g.m) break;
      const auto* numbers = reinterpret_cast<const uint4*>(a + row * g.a_stride);
#pragma unroll
      for (int u = 0; u < kAhead; ++u) {
        const int p = first + u * 32;
        const uint4 x = p < packs ? numbers[p] : uint4{};
        add_products(sums[row], w[u], x);
      }
    }
  }
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    float sum = sums[row].x + sums[row].y;
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
  const auto start = [&](auto* kernel) {
    launch_overlapped(true, kernel, blocks, kWarps * 32, stream, args);
  };
  if (args.m == 1)
    start(gemv_kernel<C, 1>);
  else if (args.m <= 4)
    start(gemv_kernel<C, 4>);
  else
    start(gemv_kernel<C, 8>);
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
