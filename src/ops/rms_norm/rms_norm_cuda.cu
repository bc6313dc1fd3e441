// RMSNorm with an optional residual add on the GPU: one block a row, the row held in shared memory so that
// each operand is read once. The maths is in rms_norm.h.
#include "program/kernel_context.h"
#include "tensor/gpu.h"

namespace serval {
namespace {

constexpr int kThreads = 256;

__device__ float to_float(float x) {
  return x;
}
__device__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
template <class T>
__device__ T from_float(float x);
template <>
__device__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16(x);
}

template <class T>
struct Arguments {
  const T *x, *weight, *branch;
  T *y, *sum;
  int64_t size, x_stride, branch_stride, y_stride, sum_stride;
  float eps;
};

// The sum over the block, the same bits in every thread and on every run.
__device__ float block_sum(float value) {
  __shared__ float partial[kThreads / 32];
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (int warp = 0; warp < kThreads / 32; ++warp) total += partial[warp];
  return total;
}

template <class T>
__global__ void forward_kernel(Arguments<T> a) {
  extern __shared__ float row[];
  const int64_t r = blockIdx.x;
  float squares = 0;
  for (int64_t i = threadIdx.x; i < a.size; i += kThreads) {
    float value = to_float(a.x[r * a.x_stride + i]);
    if (a.branch != nullptr) {
      // The sum is rounded before it is normalised, so that it can be normalised again from what was kept.
      const T rounded = from_float<T>(value + to_float(a.branch[r * a.branch_stride + i]));
      a.sum[r * a.sum_stride + i] = rounded;
      value = to_float(rounded);
    }
    row[i] = value;
    squares += value * value;
  }
  const float scale = rsqrtf(block_sum(squares) / static_cast<float>(a.size) + a.eps);
  for (int64_t i = threadIdx.x; i < a.size; i += kThreads)
    a.y[r * a.y_stride + i] = from_float<T>(row[i] * scale * to_float(a.weight[i]));
}

template <class T>
void launch(const KernelContext& c, void* stream) {
  const Operand &x = c.input(0), &weight = c.input(1), &branch = c.input(2), &y = c.output(0),
                &sum = c.output(1);
  if (x.rows == 0) return;
  const Arguments<T> a{x.as<T>(),
                       weight.as<T>(),
                       branch.as<T>(),
                       y.as<T>(),
                       sum.as<T>(),
                       x.row_size,
                       x.row_stride,
                       branch.row_stride,
                       y.row_stride,
                       sum.row_stride,
                       static_cast<float>(c.attributes->number("eps"))};
  const size_t shared = static_cast<size_t>(x.row_size) * sizeof(float);
  forward_kernel<T>
      <<<static_cast<unsigned>(x.rows), kThreads, shared, static_cast<cudaStream_t>(stream)>>>(a);
}

}  // namespace

void rms_norm_forward_cuda(const KernelContext& c, void* stream) {
  if (c.input(0).dtype == DType::f32)
    launch<float>(c, stream);
  else
    launch<__nv_bfloat16>(c, stream);
}

}  // namespace serval
