// RMSNorm with an optional residual add on the GPU. A warp or a block holds its row in registers, so that
// each operand is read once. Rows that are too long for that, or that do not lie at 16-byte borders, are read
// twice. The maths is in rms_norm.h.
#include <algorithm>
#include <initializer_list>

#include "ops/common/cuda_kernel.h"
#include "ops/rms_norm/rms_norm_cuda.h"
#include "tensor/gpu_overlap.h"

namespace serval {
namespace {

using namespace cuda;

// Rows in a block whose warps hold one each, and threads of a block that reads its row twice.
constexpr int kWarps = 8, kLongThreads = 512;
constexpr int kSumColumns = 32, kSumLanes = 32;

// kLanes threads hold a row: a warp, or the whole block.
template <int kLanes>
constexpr int kRows = kLanes == 32 ? kWarps : 1;

template <class T>
struct Forward {
  const T *x, *branch, *weight;
  T *y, *sum;
  int64_t x_stride, branch_stride, y_stride, sum_stride;
  int64_t rows;
  int size;
  float eps;
};

template <class T>
struct Backward {
  const T *dy, *s, *d_sum, *weight;
  T *ds, *y;  // y: nullptr where it is not wanted
  int64_t dy_stride, s_stride, d_sum_stride, ds_stride, y_stride;
  int64_t rows;
  int size;
  float eps;
  float* scratch;  // ops::norm_backward_numbers; nullptr: the weight is not trained
};

__device__ __forceinline__ float inverse_rms(float squares, int size, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(size) + eps);
}

// A row is held as it lies in memory, 16 bytes a word: numbers are converted where they are used.
template <class T>
__device__ __forceinline__ uint4 load_word(const T* from) {
  return *reinterpret_cast<const uint4*>(from);
}
template <class T>
__device__ __forceinline__ void store_word(T* to, const uint4& word) {
  *reinterpret_cast<uint4*>(to) = word;
}
// Both sums over the threads of a row, the same bits in each of them.
template <int kLanes>
__device__ __forceinline__ float2 row_sums(float a, float b) {
  a = warp_sum(a);
  b = warp_sum(b);
  if constexpr (kLanes == 32) {
    return {a, b};
  } else {
    __shared__ float2 partial[kLanes / 32];
    __syncthreads();  // the last row's sums have been read
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = {a, b};
    __syncthreads();
    float2 total = {0, 0};
#pragma unroll
    for (int warp = 0; warp < kLanes / 32; ++warp) {
      total.x += partial[warp].x;
      total.y += partial[warp].y;
    }
    return total;
  }
}

template <class T, int kLanes, int kWords>
__global__ void __launch_bounds__(kLanes* kRows<kLanes>) forward_kernel(const Forward<T> a) {
  constexpr int N = kPack<T>;
  await_previous();
  const int lane = threadIdx.x % kLanes;
  const int64_t row = int64_t{blockIdx.x} * kRows<kLanes> + threadIdx.x / kLanes;
  if (row >= a.rows) return;  // a whole warp, where warps hold rows
  // Words past the end of the row are zeros.
  uint4 s[kWords] = {}, w[kWords] = {};
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const int column = (k * kLanes + lane) * N;
    if (column >= a.size) continue;
    s[k] = load_word(a.x + row * a.x_stride + column);
    w[k] = load_word(a.weight + column);
  }
  float x[N], other[N];
  if (a.branch != nullptr) {
    uint4 b[kWords] = {};
#pragma unroll
    for (int k = 0; k < kWords; ++k) {
      const int column = (k * kLanes + lane) * N;
      if (column < a.size) b[k] = load_word(a.branch + row * a.branch_stride + column);
    }
#pragma unroll
    for (int k = 0; k < kWords; ++k) {
      const int column = (k * kLanes + lane) * N;
      unpack_word<T>(s[k], x);
      unpack_word<T>(b[k], other);
#pragma unroll
      for (int i = 0; i < N; ++i) x[i] += other[i];
      // Rounded before it is normalised, so that it can be normalised again from what was kept.
      s[k] = packed_word<T>(x);
      if (column < a.size) store_word(a.sum + row * a.sum_stride + column, s[k]);
    }
  }
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    unpack_word<T>(s[k], x);
#pragma unroll
    for (int i = 0; i < N; ++i) squares += x[i] * x[i];
    forget(s[k]);
  }
  if constexpr (kLanes == 32)
    squares = warp_sum(squares);
  else
    squares = block_sum<kLanes>(squares);
  const float r = inverse_rms(squares, a.size, a.eps);
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const int column = (k * kLanes + lane) * N;
    if (column >= a.size) continue;
    unpack_word<T>(s[k], x);
    unpack_word<T>(w[k], other);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = x[i] * r * other[i];
    store_word(a.y + row * a.y_stride + column, packed_word<T>(x));
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kLongThreads) long_forward_kernel(const Forward<T> a) {
  const int64_t row = blockIdx.x;
  const T *x = a.x + row * a.x_stride, *branch = a.branch + row * a.branch_stride;
  T *y = a.y + row * a.y_stride, *sum = a.sum + row * a.sum_stride;
  float squares = 0;
  for (int column = threadIdx.x * N; column < a.size; column += kLongThreads * N) {
    Pack<T, N> s = load<T, N>(x + column);
    if (a.branch != nullptr) {
      const Pack<T, N> b = load<T, N>(branch + column);
#pragma unroll
      for (int i = 0; i < N; ++i) s.at[i] = from_float<T>(to_float(s.at[i]) + to_float(b.at[i]));
      store<T, N>(sum + column, s);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) squares += to_float(s.at[i]) * to_float(s.at[i]);
  }
  const float r = inverse_rms(block_sum<kLongThreads>(squares), a.size, a.eps);
  // Each thread reads the elements of the sum that it wrote itself.
  const T* again = a.branch != nullptr ? sum : x;
  for (int column = threadIdx.x * N; column < a.size; column += kLongThreads * N) {
    const Pack<T, N> s = load<T, N>(again + column), w = load<T, N>(a.weight + column);
    Pack<T, N> out;
#pragma unroll
    for (int i = 0; i < N; ++i) out.at[i] = from_float<T>(to_float(s.at[i]) * r * to_float(w.at[i]));
    store<T, N>(y + column, out);
  }
}

// What a thread holds of one row.
template <int kWords>
struct HeldRow {
  uint4 dy[kWords] = {}, s[kWords] = {}, d_sum[kWords] = {};
};

template <class T, int kLanes, int kWords>
__device__ __forceinline__ void hold(const Backward<T>& a, int64_t row, int lane, HeldRow<kWords>& held) {
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const int column = (k * kLanes + lane) * kPack<T>;
    if (column >= a.size) continue;
    held.dy[k] = load_word(a.dy + row * a.dy_stride + column);
    held.s[k] = load_word(a.s + row * a.s_stride + column);
    if (a.d_sum != nullptr) held.d_sum[k] = load_word(a.d_sum + row * a.d_sum_stride + column);
  }
}
template <class T, int kLanes, int kWords>
__device__ __forceinline__ void hold_weight(const Backward<T>& a, int lane, uint4 (&w)[kWords]) {
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const int column = (k * kLanes + lane) * kPack<T>;
    if (column < a.size) w[k] = load_word(a.weight + column);
  }
}

// Writes the row's gradient and returns 1 / rms.
template <class T, int kLanes, int kWords>
__device__ __forceinline__ float finish(const Backward<T>& a, int64_t row, int lane, HeldRow<kWords>& held,
                                        uint4 (&w)[kWords]) {
  constexpr int N = kPack<T>;
  float dy[N], s[N], weight[N], d_sum[N], squares = 0, dot = 0;
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    unpack_word<T>(held.dy[k], dy);
    unpack_word<T>(held.s[k], s);
    unpack_word<T>(w[k], weight);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      squares += s[i] * s[i];
      dot += dy[i] * weight[i] * s[i];
    }
    forget(held.dy[k]);
    forget(held.s[k]);
    forget(w[k]);
  }
  const float2 sums = row_sums<kLanes>(squares, dot);
  const float r = inverse_rms(sums.x, a.size, a.eps);
  const float scale = sums.y * r * r * r / static_cast<float>(a.size);
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const int column = (k * kLanes + lane) * N;
    if (column >= a.size) continue;
    unpack_word<T>(held.dy[k], dy);
    unpack_word<T>(held.s[k], s);
    unpack_word<T>(w[k], weight);
    unpack_word<T>(held.d_sum[k], d_sum);
#pragma unroll
    for (int i = 0; i < N; ++i) dy[i] = dy[i] * weight[i] * r - s[i] * scale + d_sum[i];
    store_word(a.ds + row * a.ds_stride + column, packed_word<T>(dy));
    if (a.y == nullptr) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) s[i] = s[i] * r * weight[i];
    store_word(a.y + row * a.y_stride + column, packed_word<T>(s));
  }
  return r;
}

template <class T, int kLanes, int kWords>
__global__ void __launch_bounds__(kLanes* kRows<kLanes>) backward_kernel(const Backward<T> a) {
  const int lane = threadIdx.x % kLanes;
  const int64_t row = int64_t{blockIdx.x} * kRows<kLanes> + threadIdx.x / kLanes;
  if (row >= a.rows) return;  // a whole warp, where warps hold rows
  HeldRow<kWords> held;
  hold<T, kLanes, kWords>(a, row, lane, held);
  uint4 w[kWords] = {};
  hold_weight<T, kLanes, kWords>(a, lane, w);
  finish<T, kLanes, kWords>(a, row, lane, held, w);
}

// The same, and each block adds up the weight's gradient over its rows, block, block + blocks, ..., into a
// part of its own.
template <class T, int kLanes, int kWords>
__global__ void __launch_bounds__(kLanes* kRows<kLanes>) backward_weight_kernel(const Backward<T> a) {
  constexpr int N = kPack<T>, kGroups = kRows<kLanes>;
  constexpr bool kAhead = kWords <= 2;  // the next row is fetched while this one is worked on
  const int lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
  const int64_t step = int64_t{gridDim.x} * kGroups;
  int64_t row = int64_t{blockIdx.x} * kGroups + group;
  uint4 w[kWords] = {};
  hold_weight<T, kLanes, kWords>(a, lane, w);
  float gradient[kWords][N] = {};
  HeldRow<kWords> held, next;
  if (kAhead && row < a.rows) hold<T, kLanes, kWords>(a, row, lane, next);
  for (; row < a.rows; row += step) {
    if constexpr (kAhead) {
      held = next;
      if (row + step < a.rows) hold<T, kLanes, kWords>(a, row + step, lane, next);
    } else {
      hold<T, kLanes, kWords>(a, row, lane, held);
    }
    const float r = finish<T, kLanes, kWords>(a, row, lane, held, w);
#pragma unroll
    for (int k = 0; k < kWords; ++k) {
      float dy[N], s[N];
      unpack_word<T>(held.dy[k], dy);
      unpack_word<T>(held.s[k], s);
#pragma unroll
      for (int i = 0; i < N; ++i) gradient[k][i] += dy[i] * s[i] * r;
    }
  }
  if constexpr (kGroups > 1) {
    // The warps' sums are added in order; the last warp holds the total.
    __shared__ float total[kWords][N][32];
    for (int turn = 0; turn < kGroups; ++turn) {
      if (group == turn) {
#pragma unroll
        for (int k = 0; k < kWords; ++k)
#pragma unroll
          for (int i = 0; i < N; ++i) {
            if (turn > 0) gradient[k][i] += total[k][i][lane];
            total[k][i][lane] = gradient[k][i];
          }
      }
      __syncthreads();
    }
  }
  if (group != kGroups - 1) return;
  float* part = a.scratch + int64_t{blockIdx.x} * a.size;
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const int column = (k * kLanes + lane) * N;
    if (column >= a.size) continue;
#pragma unroll
    for (int i = 0; i < N; i += 4)
      *reinterpret_cast<float4*>(part + column + i) = {gradient[k][i], gradient[k][i + 1], gradient[k][i + 2],
                                                       gradient[k][i + 3]};
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kLongThreads) long_backward_kernel(const Backward<T> a) {
  const int64_t row = blockIdx.x;
  const T *dy = a.dy + row * a.dy_stride, *s = a.s + row * a.s_stride,
          *d_sum = a.d_sum + row * a.d_sum_stride;
  T* ds = a.ds + row * a.ds_stride;
  float squares = 0, dot = 0;
  for (int column = threadIdx.x * N; column < a.size; column += kLongThreads * N) {
    const Pack<T, N> d = load<T, N>(dy + column), x = load<T, N>(s + column),
                     w = load<T, N>(a.weight + column);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      squares += to_float(x.at[i]) * to_float(x.at[i]);
      dot += to_float(d.at[i]) * to_float(w.at[i]) * to_float(x.at[i]);
    }
  }
  const float2 sums = row_sums<kLongThreads>(squares, dot);
  const float r = inverse_rms(sums.x, a.size, a.eps);
  const float scale = sums.y * r * r * r / static_cast<float>(a.size);
  if (a.scratch != nullptr && threadIdx.x == 0) a.scratch[row] = r;
  for (int column = threadIdx.x * N; column < a.size; column += kLongThreads * N) {
    const Pack<T, N> d = load<T, N>(dy + column), x = load<T, N>(s + column),
                     w = load<T, N>(a.weight + column);
    Pack<T, N> extra = {}, out;
    if (a.d_sum != nullptr) extra = load<T, N>(d_sum + column);
#pragma unroll
    for (int i = 0; i < N; ++i)
      out.at[i] = from_float<T>(to_float(d.at[i]) * to_float(w.at[i]) * r - to_float(x.at[i]) * scale +
                                to_float(extra.at[i]));
    store<T, N>(ds + column, out);
    if (a.y == nullptr) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) out.at[i] = from_float<T>(to_float(x.at[i]) * r * to_float(w.at[i]));
    store<T, N>(a.y + row * a.y_stride + column, out);
  }
}

// target[j] += sum over i of term(i, column j): each lane adds every kSumLanes-th term, then the lanes are
// added in order.
template <class F>
__device__ __forceinline__ void add_column_sum(int64_t terms, int size, float* target, F term) {
  __shared__ float partial[kSumLanes][kSumColumns];
  const int column = blockIdx.x * kSumColumns + threadIdx.x;
  float sum = 0;
  if (column < size) {
#pragma unroll 4
    for (int64_t i = threadIdx.y; i < terms; i += kSumLanes) sum += term(i, column);
  }
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= size) return;
#pragma unroll
  for (int lane = 1; lane < kSumLanes; ++lane) sum += partial[lane][threadIdx.x];
  target[column] += sum;
}

__global__ void __launch_bounds__(kSumColumns* kSumLanes)
    add_parts_kernel(const float* parts, int64_t count, int size, float* d_weight) {
  add_column_sum(count, size, d_weight, [&](int64_t i, int column) { return parts[i * size + column]; });
}

template <class T>
__global__ void __launch_bounds__(kSumColumns* kSumLanes)
    long_weight_kernel(const Backward<T> a, float* d_weight) {
  add_column_sum(a.rows, a.size, d_weight, [&](int64_t row, int column) {
    return to_float(a.dy[row * a.dy_stride + column]) * to_float(a.s[row * a.s_stride + column]) *
           a.scratch[row];
  });
}

// Calls f<kLanes, kWords>() for the fewest threads that can hold a row of `words`; false: none can.
template <class F>
bool with_holders(int64_t words, F f) {
  if (words <= 32)
    f.template operator()<32, 1>();
  else if (words <= 64)
    f.template operator()<32, 2>();
  else if (words <= 128)
    f.template operator()<32, 4>();
  else if (words <= 256)
    f.template operator()<128, 2>();
  else if (words <= 512)
    f.template operator()<256, 2>();
  else if (words <= 1024)
    f.template operator()<512, 2>();
  else if (words <= 2048)
    f.template operator()<512, 4>();
  else
    return false;
  return true;
}

// Whether rows of these operands can be read in 16-byte packs. The weight's "rows" are its elements.
bool in_packs(std::initializer_list<const Operand*> rows, const Operand& weight) {
  return reinterpret_cast<uintptr_t>(weight.data) % 16 == 0 &&
         std::all_of(rows.begin(), rows.end(), [](const Operand* x) { return aligned_to(*x, 16); });
}

template <class T>
void start_forward(const KernelContext& c, cudaStream_t stream) {
  const Operand &x = c.input(0), &weight = c.input(1), &branch = c.input(2), &y = c.output(0),
                &sum = c.output(1);
  const Forward<T> a{.x = x.as<T>(),
                     .branch = branch.as<T>(),
                     .weight = weight.as<T>(),
                     .y = y.as<T>(),
                     .sum = sum.as<T>(),
                     .x_stride = x.row_stride,
                     .branch_stride = branch.row_stride,
                     .y_stride = y.row_stride,
                     .sum_stride = sum.row_stride,
                     .rows = x.rows,
                     .size = static_cast<int>(x.row_size),
                     .eps = static_cast<float>(c.attributes->number("eps"))};
  if (a.rows == 0 || a.size == 0) return;
  const bool packed = in_packs({&x, &branch, &y, &sum}, weight);
  const auto held = [&]<int kLanes, int kWords>() {
    constexpr int kThreads = kLanes * kRows<kLanes>;
    launch_overlapped(a.rows <= kOverlapRows, forward_kernel<T, kLanes, kWords>,
                      blocks_for(a.rows, kRows<kLanes>), kThreads, stream, a);
  };
  if (!packed)
    long_forward_kernel<T, 1><<<static_cast<unsigned>(a.rows), kLongThreads, 0, stream>>>(a);
  else if (!with_holders(a.size / kPack<T>, held))
    long_forward_kernel<T, kPack<T>><<<static_cast<unsigned>(a.rows), kLongThreads, 0, stream>>>(a);
  SERVAL_CUDA(cudaGetLastError());
}

template <class T>
void start_backward(const KernelContext& c, cudaStream_t stream) {
  const Operand &dy = c.input(0), &s = c.input(1), &weight = c.input(2), &d_sum = c.input(3),
                &ds = c.output(0), &y = c.output(1);
  float* d_weight = c.update(0).as<float>();
  const Backward<T> a{.dy = dy.as<T>(),
                      .s = s.as<T>(),
                      .d_sum = d_sum.as<T>(),
                      .weight = weight.as<T>(),
                      .ds = ds.as<T>(),
                      .y = y.as<T>(),
                      .dy_stride = dy.row_stride,
                      .s_stride = s.row_stride,
                      .d_sum_stride = d_sum.row_stride,
                      .ds_stride = ds.row_stride,
                      .y_stride = y.row_stride,
                      .rows = s.rows,
                      .size = static_cast<int>(s.row_size),
                      .eps = static_cast<float>(c.attributes->number("eps")),
                      .scratch = d_weight != nullptr ? static_cast<float*>(c.workspace) : nullptr};
  if (a.rows == 0 || a.size == 0) return;
  const dim3 sum_block(kSumColumns, kSumLanes);
  const unsigned sum_blocks = blocks_for(a.size, kSumColumns);
  const auto held = [&]<int kLanes, int kWords>() {
    constexpr int kThreads = kLanes * kRows<kLanes>;
    const unsigned blocks = blocks_for(a.rows, kRows<kLanes>);
    if (d_weight == nullptr) {
      backward_kernel<T, kLanes, kWords><<<blocks, kThreads, 0, stream>>>(a);
      return;
    }
    const unsigned parts = std::min(blocks, static_cast<unsigned>(ops::norm_gradient_parts(a.rows, a.size)));
    backward_weight_kernel<T, kLanes, kWords><<<parts, kThreads, 0, stream>>>(a);
    SERVAL_CUDA(cudaGetLastError());
    add_parts_kernel<<<sum_blocks, sum_block, 0, stream>>>(a.scratch, parts, a.size, d_weight);
  };
  const bool packed = in_packs({&dy, &s, &d_sum, &ds, &y}, weight);
  if (!packed || !with_holders(a.size / kPack<T>, held)) {
    const auto blocks = static_cast<unsigned>(a.rows);
    if (packed)
      long_backward_kernel<T, kPack<T>><<<blocks, kLongThreads, 0, stream>>>(a);
    else
      long_backward_kernel<T, 1><<<blocks, kLongThreads, 0, stream>>>(a);
    SERVAL_CUDA(cudaGetLastError());
    if (d_weight != nullptr) long_weight_kernel<T><<<sum_blocks, sum_block, 0, stream>>>(a, d_weight);
  }
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace

void rms_norm_forward_cuda(const KernelContext& c, void* stream) {
  SERVAL_CUDA_DISPATCH(c.input(0).dtype, start_forward, c, as_stream(stream));
}

void rms_norm_backward_cuda(const KernelContext& c, void* stream) {
  SERVAL_CUDA_DISPATCH(c.input(1).dtype, start_backward, c, as_stream(stream));
}

}  // namespace serval
