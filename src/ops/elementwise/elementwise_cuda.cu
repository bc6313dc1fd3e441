// Sums, copies, zeros and gathered rows on the GPU. Rows past the count are treated as all others; only
// gathered ones are zeros, for their indices mean nothing.
#include <algorithm>
#include <initializer_list>

#include "ops/common/cuda_kernel.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
// Vectors of each operand that a thread reads before it writes.
constexpr int kAhead = 4, kSumAhead = 2;

// A vector is 16 bytes, or one element where rows do not lie at such borders; sizes and strides count them.
// One 16-byte store: the compiler may split an assignment.
template <class V>
__device__ __forceinline__ void write(V* to, const V& value) {
  if constexpr (sizeof(V) == 16)
    __stwb(reinterpret_cast<uint4*>(to), __builtin_bit_cast(uint4, value));
  else
    *to = value;
}

// Where vector `index` of rows * size stands; 32-bit division is several times as fast.
__device__ __forceinline__ int64_t offset_of(int64_t index, int64_t rows, int64_t size, int64_t stride) {
  if (rows == 1) return index;
  int64_t row = 0;
  if (rows * size <= UINT32_MAX)
    row = static_cast<uint32_t>(index) / static_cast<uint32_t>(size);
  else
    row = index / size;
  return row * stride + (index - row * size);
}

template <class V>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(const V* from, int64_t from_stride, V* to, int64_t to_stride, int64_t rows, int64_t size) {
  const int64_t begin = int64_t{blockIdx.x} * (kAhead * kThreads) + threadIdx.x, end = rows * size;
  V held[kAhead];
#pragma unroll
  for (int k = 0; k < kAhead; ++k) {
    const int64_t i = begin + k * kThreads;
    if (i < end) held[k] = from[offset_of(i, rows, size, from_stride)];
  }
#pragma unroll
  for (int k = 0; k < kAhead; ++k) {
    const int64_t i = begin + k * kThreads;
    if (i < end) write(to + offset_of(i, rows, size, to_stride), held[k]);
  }
}

// `out` may be `x`.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const Pack<T, N>* x, int64_t x_stride, const Pack<T, N>* y, int64_t y_stride, Pack<T, N>* out,
               int64_t out_stride, int64_t rows, int64_t size) {
  const int64_t begin = int64_t{blockIdx.x} * (kSumAhead * kThreads) + threadIdx.x, end = rows * size;
  Pack<T, N> a[kSumAhead], b[kSumAhead];
#pragma unroll
  for (int k = 0; k < kSumAhead; ++k) {
    const int64_t i = begin + k * kThreads;
    if (i >= end) continue;
    a[k] = x[offset_of(i, rows, size, x_stride)];
    b[k] = y[offset_of(i, rows, size, y_stride)];
  }
#pragma unroll
  for (int k = 0; k < kSumAhead; ++k) {
    const int64_t i = begin + k * kThreads;
    if (i >= end) continue;
#pragma unroll
    for (int j = 0; j < N; ++j) a[k].at[j] = from_float<T>(to_float(a[k].at[j]) + to_float(b[k].at[j]));
    write(out + offset_of(i, rows, size, out_stride), a[k]);
  }
}

// One block a row of `to`.
template <class V>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const V* from, int64_t from_stride, int64_t from_rows, const int32_t* index,
                  const int32_t* count, V* to, int64_t to_stride, int64_t size) {
  const int64_t row = int64_t{blockIdx.x} < valid_rows(count, gridDim.x) ? index[blockIdx.x] : -1;
  const bool exists = row >= 0 && row < from_rows;
  for (int64_t begin = threadIdx.x; begin < size; begin += kAhead * kThreads) {
    V held[kAhead] = {};
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t i = begin + k * kThreads;
      if (exists && i < size) held[k] = from[row * from_stride + i];
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t i = begin + k * kThreads;
      if (i < size) write(to + blockIdx.x * to_stride + i, held[k]);
    }
  }
}

bool dense(const Operand& x) {
  return x.rows <= 1 || x.row_stride == x.row_size;
}
// The same memory as one row.
Operand flat(Operand x) {
  x.row_size = x.row_stride = x.rows * x.row_size;
  x.rows = 1;
  return x;
}
bool all_of(std::initializer_list<const Operand*> operands, bool (*holds)(const Operand&)) {
  return std::all_of(operands.begin(), operands.end(), [&](const Operand* x) { return holds(*x); });
}
bool at_16_bytes(const Operand& x) {
  return aligned_to(x, 16);
}

template <class T>
void start_sum(Operand x, Operand y, Operand out, cudaStream_t stream) {
  if (all_of({&x, &y, &out}, dense)) x = flat(x), y = flat(y), out = flat(out);
  const auto run = [&]<int N>() {
    const int64_t size = out.row_size / N;
    const unsigned blocks = blocks_for(out.rows * size, kSumAhead * kThreads);
    if (blocks == 0) return;
    sum_kernel<T, N><<<blocks, kThreads, 0, stream>>>(
        x.as<Pack<T, N>>(), x.row_stride / N, y.as<Pack<T, N>>(), y.row_stride / N, out.as<Pack<T, N>>(),
        out.row_stride / N, out.rows, size);
  };
  if (all_of({&x, &y, &out}, at_16_bytes))
    run.template operator()<kPack<T>>();
  else
    run.template operator()<1>();
  SERVAL_CUDA(cudaGetLastError());
}

// Calls f with a vector of the widest type that both tensors can be read in.
template <class F>
void with_vectors(const Operand& from, const Operand& to, F f) {
  if (from.dtype != to.dtype || (to.dtype != DType::f32 && to.dtype != DType::bf16))
    unsupported_type("copy and gather_rows");
  if (at_16_bytes(from) && at_16_bytes(to))
    f(uint4{});
  else if (to.dtype == DType::f32)
    f(uint32_t{});
  else
    f(uint16_t{});
}

}  // namespace

void add_cuda(const KernelContext& c, void* stream) {
  SERVAL_CUDA_DISPATCH(c.output(0).dtype, start_sum, c.input(0), c.input(1), c.output(0), as_stream(stream));
}

void accumulate_cuda(const KernelContext& c, void* stream) {
  SERVAL_CUDA_DISPATCH(c.update(0).dtype, start_sum, c.update(0), c.input(0), c.update(0), as_stream(stream));
}

void copy_cuda(const KernelContext& c, void* stream) {
  Operand from = c.input(0), to = c.output(0);
  if (dense(from) && dense(to)) from = flat(from), to = flat(to);
  with_vectors(from, to, [&]<class V>(V) {
    const int64_t elements = static_cast<int64_t>(sizeof(V)) / size_of(to.dtype),
                  size = to.row_size / elements;
    const unsigned blocks = blocks_for(to.rows * size, kAhead * kThreads);
    if (blocks == 0) return;
    copy_kernel<V><<<blocks, kThreads, 0, as_stream(stream)>>>(
        from.as<V>(), from.row_stride / elements, to.as<V>(), to.row_stride / elements, to.rows, size);
  });
  SERVAL_CUDA(cudaGetLastError());
}

void fill_zero_cuda(const KernelContext& c, void* stream) {
  Operand out = c.update(0);
  if (dense(out)) out = flat(out);
  if (out.rows == 0 || out.row_size == 0) return;
  const auto bytes = static_cast<size_t>(out.row_size * size_of(out.dtype));
  if (out.rows == 1)
    SERVAL_CUDA(cudaMemsetAsync(out.data, 0, bytes, as_stream(stream)));
  else
    SERVAL_CUDA(cudaMemset2DAsync(out.data, static_cast<size_t>(out.row_stride * size_of(out.dtype)), 0,
                                  bytes, static_cast<size_t>(out.rows), as_stream(stream)));
}

void gather_rows_cuda(const KernelContext& c, void* stream) {
  const Operand &x = c.input(0), &rows = c.input(1), &out = c.output(0);
  if (out.rows == 0 || out.row_size == 0) return;
  with_vectors(x, out, [&]<class V>(V) {
    const int64_t elements = static_cast<int64_t>(sizeof(V)) / size_of(out.dtype);
    gather_kernel<V><<<static_cast<unsigned>(out.rows), kThreads, 0, as_stream(stream)>>>(
        x.as<V>(), x.row_stride / elements, x.rows, rows.as<int32_t>(), rows.count, out.as<V>(),
        out.row_stride / elements, out.row_size / elements);
  });
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace serval
