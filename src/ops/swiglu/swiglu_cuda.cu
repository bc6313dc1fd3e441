// SwiGLU on the GPU: every thread computes N neighbouring elements. The maths is in swiglu.h.
#include "ops/common/cuda_kernel.h"
#include "tensor/gpu_overlap.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

// The error of the fast functions is far below the rounding to bf16.
template <class T>
__device__ __forceinline__ float exponential(float x) {
  if constexpr (sizeof(T) == 2)
    return __expf(x);
  else
    return expf(x);
}
template <class T>
__device__ __forceinline__ float quotient(float a, float b) {
  if constexpr (sizeof(T) == 2)
    return __fdividef(a, b);
  else
    return a / b;
}

// One 16-byte store: the compiler may split the assignment of a Pack into its elements.
template <class T, int N>
__device__ __forceinline__ void store_whole(T* to, const Pack<T, N>& pack) {
  if constexpr (sizeof(pack) == 16)
    __stwb(reinterpret_cast<uint4*>(to), __builtin_bit_cast(uint4, pack));
  else
    store<T, N>(to, pack);
}

struct Position {
  int64_t row;
  int64_t column;
};
// Of vector `index`, where a row has `vectors` of them; 32-bit division is several times as fast.
__device__ __forceinline__ Position position(int64_t index, int64_t vectors, int64_t total) {
  int64_t row = 0;
  if (total <= UINT32_MAX)
    row = static_cast<uint32_t>(index) / static_cast<uint32_t>(vectors);
  else
    row = index / vectors;
  return {row, index - row * vectors};
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t size) {
  await_previous();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x, vectors = size / N;
  if (index >= rows * vectors) return;
  const auto [row, vector] = position(index, vectors, rows * vectors);
  const T* from = x + row * x_stride + vector * N;
  const Pack<T, N> gate = load<T, N>(from), up = load<T, N>(from + size);
  Pack<T, N> out;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float g = to_float(gate.at[i]);
    out.at[i] = from_float<T>(quotient<T>(g, 1.0f + exponential<T>(-g)) * to_float(up.at[i]));
  }
  store_whole<T, N>(y + row * y_stride + vector * N, out);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* dy, int64_t dy_stride, const T* x, int64_t x_stride, T* dx, int64_t dx_stride,
                    T* y, int64_t y_stride, int64_t rows, int64_t size) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x, vectors = size / N;
  if (index >= rows * vectors) return;
  const auto [row, vector] = position(index, vectors, rows * vectors);
  const T* from = x + row * x_stride + vector * N;
  const Pack<T, N> gate = load<T, N>(from), up = load<T, N>(from + size),
                   grad = load<T, N>(dy + row * dy_stride + vector * N);
  Pack<T, N> d_gate, d_up, again;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float g = to_float(gate.at[i]), d = to_float(grad.at[i]);
    const float below = 1.0f + exponential<T>(-g), s = quotient<T>(1.0f, below);
    again.at[i] = from_float<T>(quotient<T>(g, below) * to_float(up.at[i]));  // as in the forward kernel
    d_gate.at[i] = from_float<T>(d * to_float(up.at[i]) * s * (1.0f + g * (1.0f - s)));
    d_up.at[i] = from_float<T>(d * g * s);
  }
  T* to = dx + row * dx_stride + vector * N;
  store_whole<T, N>(to, d_gate);
  store_whole<T, N>(to + size, d_up);
  if (y != nullptr) store_whole<T, N>(y + row * y_stride + vector * N, again);
}

template <class T>
void start_forward(const Operand& x, const Operand& y, cudaStream_t stream) {
  const auto run = [&]<int N>() {
    const unsigned blocks = blocks_for(y.rows * (y.row_size / N), kThreads);
    if (blocks == 0) return;
    launch_overlapped(y.rows <= kOverlapRows, forward_kernel<T, N>, blocks, kThreads, stream, x.as<T>(),
                      x.row_stride, y.as<T>(), y.row_stride, y.rows, y.row_size);
  };
  if (aligned_to(x, 16) && aligned_to(y, 16))
    run.template operator()<kPack<T>>();
  else
    run.template operator()<1>();
  SERVAL_CUDA(cudaGetLastError());
}

template <class T>
void start_backward(const Operand& dy, const Operand& x, const Operand& dx, const Operand& y,
                    cudaStream_t stream) {
  const auto run = [&]<int N>() {
    const unsigned blocks = blocks_for(dy.rows * (dy.row_size / N), kThreads);
    if (blocks == 0) return;
    backward_kernel<T, N><<<blocks, kThreads, 0, stream>>>(dy.as<T>(), dy.row_stride, x.as<T>(), x.row_stride,
                                                           dx.as<T>(), dx.row_stride, y.as<T>(), y.row_stride,
                                                           dy.rows, dy.row_size);
  };
  if (aligned_to(dy, 16) && aligned_to(x, 16) && aligned_to(dx, 16) && aligned_to(y, 16))
    run.template operator()<kPack<T>>();
  else
    run.template operator()<1>();
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace

void swiglu_forward_cuda(const KernelContext& c, void* stream) {
  SERVAL_CUDA_DISPATCH(c.input(0).dtype, start_forward, c.input(0), c.output(0), as_stream(stream));
}

void swiglu_backward_cuda(const KernelContext& c, void* stream) {
  SERVAL_CUDA_DISPATCH(c.input(1).dtype, start_backward, c.input(0), c.input(1), c.output(0), c.output(1),
                       as_stream(stream));
}

}  // namespace serval
