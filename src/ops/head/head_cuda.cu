// The head on a GPU. The number of label rows is known on the device alone, so all chunks of the capacity
// run: gathered rows past the count are zeros and so are the gradients of their logits, which leaves nothing
// to add to d_weight, and they add nothing to the sums.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "ops/common/cuda_kernel.h"
#include "ops/common/products.h"
#include "ops/head/head_kernels.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kCopyThreads = 256, kSoftmaxThreads = 1024, kSumThreads = 256;

// The label rows of one chunk: row `begin` of the call and those after it.
struct LabelRows {
  const int32_t* rows;
  const int32_t* count;
  int64_t begin, capacity, hidden_rows;

  // The hidden row of label row begin + i; -1 past the count.
  __device__ int64_t hidden_row(int64_t i) const {
    if (begin + i >= valid_rows(count, capacity)) return -1;
    const int64_t row = rows[begin + i];
    return row < hidden_rows ? row : -1;
  }
};

// Rows are copied in units V of 16 bytes, or of one element where they do not lie at such borders. Strides
// and sizes count units; one block a row.
template <class V>
struct RowCopy {
  const V* from;
  V* to;
  int64_t from_stride, to_stride, size;
};

template <class V>
__global__ void __launch_bounds__(kCopyThreads) gather_kernel(LabelRows labels, RowCopy<V> copy) {
  const int64_t row = labels.hidden_row(blockIdx.x);
  V* to = copy.to + blockIdx.x * copy.to_stride;
  if (row < 0) {
    for (int64_t i = threadIdx.x; i < copy.size; i += kCopyThreads) to[i] = V{};
    return;
  }
  const V* from = copy.from + row * copy.from_stride;
  for (int64_t i = threadIdx.x; i < copy.size; i += kCopyThreads) to[i] = from[i];
}

template <class V>
__global__ void __launch_bounds__(kCopyThreads) scatter_kernel(LabelRows labels, RowCopy<V> copy) {
  const int64_t row = labels.hidden_row(blockIdx.x);
  if (row < 0) return;
  const V* from = copy.from + blockIdx.x * copy.from_stride;
  V* to = copy.to + row * copy.to_stride;
  for (int64_t i = threadIdx.x; i < copy.size; i += kCopyThreads) to[i] = from[i];
}

__global__ void __launch_bounds__(kCopyThreads)
    mark_labelled_kernel(LabelRows labels, unsigned char* labelled) {
  const int64_t i = blockIdx.x * int64_t{kCopyThreads} + threadIdx.x;
  if (i >= labels.capacity) return;
  if (const int64_t row = labels.hidden_row(i); row >= 0) labelled[row] = 1;
}

// Only the rows that no chunk writes.
template <class V>
__global__ void __launch_bounds__(kCopyThreads)
    clear_unlabelled_kernel(const unsigned char* labelled, RowCopy<V> copy) {
  if (labelled[blockIdx.x] != 0) return;
  V* to = copy.to + blockIdx.x * copy.to_stride;
  for (int64_t i = threadIdx.x; i < copy.size; i += kCopyThreads) to[i] = V{};
}

// Calls f(RowCopy<V>) for the widest unit that suits `outside`; workspace rows suit every unit.
template <class F>
void with_row_copy(const Operand& outside, const Matrix& from, const Matrix& to, F f) {
  const auto run = [&]<class V>(V) {
    const int64_t elements = static_cast<int64_t>(sizeof(V)) / size_of(outside.dtype);
    f(RowCopy<V>{static_cast<const V*>(from.data), static_cast<V*>(to.data), from.stride / elements,
                 to.stride / elements, outside.row_size / elements});
  };
  if (aligned_to(outside, 16))
    run(uint4{});
  else if (size_of(outside.dtype) == 2)
    run(uint16_t{});
  else
    run(uint32_t{});
}

void gather(const LabelRows& labels, const Operand& hidden, const Matrix& to, cudaStream_t stream) {
  with_row_copy(hidden, Matrix::of(hidden), to, [&]<class V>(const RowCopy<V>& copy) {
    gather_kernel<V><<<static_cast<unsigned>(to.rows), kCopyThreads, 0, stream>>>(labels, copy);
  });
  SERVAL_CUDA(cudaGetLastError());
}

void scatter(const LabelRows& labels, const Matrix& from, const Operand& d_hidden, cudaStream_t stream) {
  with_row_copy(d_hidden, from, Matrix::of(d_hidden), [&]<class V>(const RowCopy<V>& copy) {
    scatter_kernel<V><<<static_cast<unsigned>(from.rows), kCopyThreads, 0, stream>>>(labels, copy);
  });
  SERVAL_CUDA(cudaGetLastError());
}

void clear_unlabelled(const LabelRows& labels, const Operand& d_hidden, unsigned char* labelled,
                      cudaStream_t stream) {
  if (d_hidden.rows == 0) return;
  SERVAL_CUDA(cudaMemsetAsync(labelled, 0, static_cast<size_t>(d_hidden.rows), stream));
  if (labels.capacity > 0) {
    mark_labelled_kernel<<<blocks_for(labels.capacity, kCopyThreads), kCopyThreads, 0, stream>>>(labels,
                                                                                                 labelled);
    SERVAL_CUDA(cudaGetLastError());
  }
  const Matrix to = Matrix::of(d_hidden);
  with_row_copy(d_hidden, to, to, [&]<class V>(const RowCopy<V>& copy) {
    clear_unlabelled_kernel<V>
        <<<static_cast<unsigned>(d_hidden.rows), kCopyThreads, 0, stream>>>(labelled, copy);
  });
  SERVAL_CUDA(cudaGetLastError());
}

// One chunk's softmax: as SoftmaxArgs of the CPU, with rows past the count.
template <class T>
struct Softmax {
  T* logits;
  int64_t stride;
  int vocab_size;
  int cached;  // packs of a row that shared memory holds between the two passes
  int64_t begin, capacity;
  const int32_t* count;
  const int32_t* labels;
  bool gradient;
  const float* row_weights;  // of the call's rows, as all below
  const float* upstream;
  int64_t upstream_stride;
  double* nll;
  int32_t* correct;
  float* logprobs;  // or nullptr
  int64_t logprobs_stride;

  __device__ void give(int64_t row, double row_nll, bool row_correct) const {
    nll[row] = row_nll;
    correct[row] = row_correct ? 1 : 0;
    if (logprobs != nullptr) logprobs[row * logprobs_stride] = static_cast<float>(-row_nll);
  }
};

// 2^x within two units of the last place; results below 2^-126 are zeros.
__device__ __forceinline__ float exponential2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
constexpr float kLog2e = 1.44269504088896341f;

// Pack `index` of a row in f32; what lies past the vocabulary adds nothing to a softmax.
template <class T, int N>
__device__ __forceinline__ void unpack(const Pack<T, N>& pack, int index, int vocab_size,
                                       float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = to_float(pack.at[i]);
  if (vocab_size - index * N < N) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = index * N + i < vocab_size ? values[i] : -INFINITY;
  }
}

__device__ float block_max(float value) {
  __shared__ float partial[kSoftmaxThreads / 32];
  value = warp_max(value);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  return warp_max(partial[threadIdx.x % 32]);
}
static_assert(kSoftmaxThreads == 32 * 32);

// One block a row. The first pass finds the maximum and the sum of exponentials in one read, and leaves the
// row's beginning in shared memory; the second turns the logits into their gradient, so that only the rest is
// read again, while it is still in the L2 cache. A thread meets the same packs in both passes. Both kinds of
// call share the first pass, instruction by instruction: the sums do not depend on whether a gradient is
// wanted.
template <class T>
__global__ void __launch_bounds__(kSoftmaxThreads) softmax_kernel(const Softmax<T> a) {
  constexpr int kN = kPack<T>, kAhead = 4;
  using Packed = Pack<T, kN>;
  extern __shared__ uint4 shared[];
  Packed* cache = reinterpret_cast<Packed*>(shared);
  const int64_t l = a.begin + blockIdx.x;
  T* logits = a.logits + blockIdx.x * a.stride;
  Packed* row = reinterpret_cast<Packed*>(logits);
  const int packs = (a.vocab_size + kN - 1) / kN, thread = static_cast<int>(threadIdx.x);
  if (l >= valid_rows(a.count, a.capacity)) {
    if (a.gradient) {
      for (int p = thread; p < packs; p += kSoftmaxThreads) *reinterpret_cast<uint4*>(row + p) = uint4{};
    }
    if (thread == 0) a.give(l, 0, false);
    return;
  }
  const int label = a.labels[l];
  // Read before the reductions, whose barriers come before any gradient is written.
  const float at_label = label >= 0 && label < a.vocab_size ? to_float(logits[label]) : NAN;

  float most = -FLT_MAX, sum = 0;
  for (int first = thread; first < packs; first += kAhead * kSoftmaxThreads) {
    Packed packed[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) packed[u] = row[min(first + u * kSoftmaxThreads, packs - 1)];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int p = first + u * kSoftmaxThreads;
      if (p >= packs) break;
      if (p < a.cached) cache[p] = packed[u];
      float x[kN];
      unpack(packed[u], p, a.vocab_size, x);
      float local = x[0];
#pragma unroll
      for (int i = 1; i < kN; ++i) local = fmaxf(local, x[i]);
      if (local > most) {
        sum *= exponential2((most - local) * kLog2e);
        most = local;
      }
#pragma unroll
      for (int i = 0; i < kN; ++i) sum += exponential2((x[i] - most) * kLog2e);
    }
  }
  const float top = block_max(most);
  sum = block_sum<kSoftmaxThreads>(sum * exponential2((most - top) * kLog2e));
  if (thread == 0)
    a.give(l, static_cast<double>(top - at_label) + log(static_cast<double>(sum)), at_label == top);
  if (!a.gradient) return;

  const float weight = a.row_weights != nullptr ? a.row_weights[l] : -a.upstream[l * a.upstream_stride];
  const float scale = weight / sum;
  const int label_pack = label >= 0 ? label / kN : -1;
  for (int first = thread; first < packs; first += kAhead * kSoftmaxThreads) {
    Packed packed[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int p = first + u * kSoftmaxThreads;
      if (p < packs) packed[u] = p < a.cached ? cache[p] : row[p];
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int p = first + u * kSoftmaxThreads;
      if (p >= packs) break;
      float x[kN];
      unpack(packed[u], p, a.vocab_size, x);
#pragma unroll
      for (int i = 0; i < kN; ++i) x[i] = exponential2((x[i] - top) * kLog2e) * scale;
      if (p == label_pack) {
#pragma unroll
        for (int i = 0; i < kN; ++i)
          if (p * kN + i == label) x[i] -= weight;
      }
      Packed gradient;
#pragma unroll
      for (int i = 0; i < kN; ++i) gradient.at[i] = from_float<T>(x[i]);
      row[p] = gradient;
    }
  }
}

// Adds the rows to sums f64[4] in one order whatever the chunks were.
__global__ void __launch_bounds__(kSumThreads)
    sums_kernel(const double* nll, const int32_t* correct, const float* row_weights, const int32_t* count,
                int64_t capacity, double* sums) {
  __shared__ double partial[3][kSumThreads];
  const int64_t rows = valid_rows(count, capacity);
  double weighted = 0, plain = 0, right = 0;
  for (int64_t l = threadIdx.x; l < rows; l += kSumThreads) {
    weighted += static_cast<double>(row_weights[l]) * nll[l];
    plain += nll[l];
    right += correct[l];
  }
  partial[0][threadIdx.x] = weighted, partial[1][threadIdx.x] = plain, partial[2][threadIdx.x] = right;
  for (unsigned half = kSumThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half)
      for (auto& terms : partial) terms[threadIdx.x] += terms[threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  for (int i = 0; i < 3; ++i) sums[i] += partial[i][0];
  sums[3] += static_cast<double>(rows);
}

struct Call {
  const Operand &hidden, &weight, &label_rows, &labels;
  const Operand &d_hidden, &d_weight;
  const float* row_weights;
  const Operand &upstream, &logprobs;
  bool gradient;
};

HeadCudaLayout layout_of(const Call& c) {
  return head_cuda_layout({.label_rows = c.label_rows.rows,
                           .hidden_rows = c.hidden.rows,
                           .vocab_size = c.weight.rows,
                           .hidden_size = c.hidden.row_size,
                           .dtype = c.hidden.dtype,
                           .gives_d_hidden = static_cast<bool>(c.d_hidden)});
}

// Bytes of shared memory for the beginning of a row. The L1 cache keeps its part: loads in flight wait there.
template <class T>
int64_t cache_bytes(int64_t row_bytes) {
  int device = 0, most = 0;
  SERVAL_CUDA(cudaGetDevice(&device));
  SERVAL_CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const int limit = std::min(160 * 1024, most - 1024) / 16 * 16;
  // The limit itself, not what this call needs: a graph that was captured before may need more.
  SERVAL_CUDA(cudaFuncSetAttribute(softmax_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, limit));
  return std::min<int64_t>(row_bytes, limit);
}

template <class T>
void run_chunks(const Call& c, void* workspace, cudaStream_t stream) {
  const HeadCudaLayout layout = layout_of(c);
  char* memory = static_cast<char*>(workspace);
  const DType dtype = c.hidden.dtype;
  const int64_t capacity = c.label_rows.rows, vocab_size = c.weight.rows, hidden_size = c.hidden.row_size;
  LabelRows labels{c.label_rows.as<int32_t>(), c.label_rows.count, 0, capacity, c.hidden.rows};
  if (c.d_hidden)
    clear_unlabelled(labels, c.d_hidden, reinterpret_cast<unsigned char*>(memory + layout.labelled), stream);
  const Matrix weight = Matrix::of(c.weight);
  const int64_t shared = c.gradient ? cache_bytes<T>(layout.logits_stride * size_of(dtype)) : 0;
  for (int64_t begin = 0; begin < capacity; begin += layout.chunk) {
    const int64_t rows = std::min(layout.chunk, capacity - begin);
    labels.begin = begin;
    const Matrix logits{memory + layout.logits, dtype, rows, vocab_size, layout.logits_stride};
    const Matrix hidden{memory + layout.hidden, dtype, rows, hidden_size, layout.hidden_stride};
    gather(labels, c.hidden, hidden, stream);
    multiply_cuda(stream, hidden, weight.t(), logits);
    const Softmax<T> softmax{.logits = static_cast<T*>(logits.data),
                             .stride = layout.logits_stride,
                             .vocab_size = static_cast<int>(vocab_size),
                             .cached = static_cast<int>(shared / 16),
                             .begin = begin,
                             .capacity = capacity,
                             .count = c.label_rows.count,
                             .labels = c.labels.as<int32_t>(),
                             .gradient = c.gradient,
                             .row_weights = c.row_weights,
                             .upstream = c.upstream.as<float>(),
                             .upstream_stride = c.upstream.row_stride,
                             .nll = reinterpret_cast<double*>(memory + layout.nll),
                             .correct = reinterpret_cast<int32_t*>(memory + layout.correct),
                             .logprobs = c.logprobs.as<float>(),
                             .logprobs_stride = c.logprobs.row_stride};
    softmax_kernel<T>
        <<<static_cast<unsigned>(rows), kSoftmaxThreads, static_cast<size_t>(shared), stream>>>(softmax);
    SERVAL_CUDA(cudaGetLastError());
    if (!c.gradient) continue;
    if (c.d_hidden) {
      const Matrix d_hidden{memory + layout.d_hidden, dtype, rows, hidden_size, layout.hidden_stride};
      multiply_cuda(stream, logits, weight, d_hidden);
      scatter(labels, d_hidden, c.d_hidden, stream);
    }
    if (c.d_weight) multiply_cuda(stream, logits.t(), hidden, Matrix::of(c.d_weight), 1, true);
  }
}

void run(const Call& c, const KernelContext& context, void* stream) {
  SERVAL_CUDA_DISPATCH(c.hidden.dtype, run_chunks, c, context.workspace, as_stream(stream));
}

}  // namespace

void head_loss_cuda(const KernelContext& c, void* stream) {
  const float* row_weights = c.input(4).as<float>();
  const Call call{
      c.input(0),  c.input(1),  c.input(2),     c.input(3),     c.output(0),
      c.update(1), row_weights, kAbsentOperand, kAbsentOperand, c.attributes->integer("gradient") != 0};
  run(call, c, stream);
  const HeadCudaLayout layout = layout_of(call);
  const char* memory = static_cast<const char*>(c.workspace);
  sums_kernel<<<1, kSumThreads, 0, as_stream(stream)>>>(
      reinterpret_cast<const double*>(memory + layout.nll),
      reinterpret_cast<const int32_t*>(memory + layout.correct), row_weights, call.label_rows.count,
      call.label_rows.rows, c.update(0).as<double>());
  SERVAL_CUDA(cudaGetLastError());
}

void head_logprobs_cuda(const KernelContext& c, void* stream) {
  run({c.input(0), c.input(1), c.input(2), c.input(3), kAbsentOperand, kAbsentOperand, nullptr,
       kAbsentOperand, c.output(0), false},
      c, stream);
}

void head_backward_cuda(const KernelContext& c, void* stream) {
  run({c.input(1), c.input(2), c.input(3), c.input(4), c.output(0), c.update(0), nullptr, c.input(0),
       kAbsentOperand, true},
      c, stream);
}

void logits_cuda(const KernelContext& c, void* stream) {
  const Operand &hidden = c.input(0), &rows = c.input(2);
  if (hidden.dtype == DType::f64) unsupported_type("logits");
  if (rows.rows == 0) return;
  const Matrix gathered{c.workspace, hidden.dtype, rows.rows, hidden.row_size,
                        head_cuda_stride(hidden.row_size)};
  gather({rows.as<int32_t>(), rows.count, 0, rows.rows, hidden.rows}, hidden, gathered, as_stream(stream));
  multiply_cuda(stream, gathered, Matrix::of(c.input(1)).t(), Matrix::of(c.output(0)));
}

}  // namespace serval
