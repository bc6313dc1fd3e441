// The embedding on the GPU. Rows of y past the count are zeros. The gradient is added without atomics: the
// block of an id's first token adds the rows of all tokens with that id, in order.
#include <type_traits>

#include "ops/common/cuda_kernel.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kAhead = 4;                  // vectors that a thread copies at once
constexpr int kSteps = 8;                  // ids that a thread compares at once
constexpr int kChunk = kSteps * kThreads;  // ids that a block compares at once
constexpr int kRowsAhead = 4;              // rows of dy that are read before they are added

struct Ids {
  const int32_t* at;
  const int32_t* count;
  int64_t capacity, vocab;

  // -1: past the count, or no row of the table.
  __device__ __forceinline__ int64_t row(int64_t token) const {
    if (token >= valid_rows(count, capacity)) return -1;
    const int32_t id = at[token];
    return id >= 0 && id < vocab ? id : -1;
  }
};

// One 16-byte store: the compiler may split an assignment.
template <class V>
__device__ __forceinline__ void write(V* to, const V& value) {
  if constexpr (sizeof(V) == 16)
    __stwb(reinterpret_cast<uint4*>(to), __builtin_bit_cast(uint4, value));
  else
    *to = value;
}

// V: 16 bytes or one element. Strides and sizes count them. One block a token.
template <class V>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(Ids ids, const V* weight, int64_t weight_stride, V* y, int64_t y_stride, int64_t size) {
  const int64_t row = ids.row(blockIdx.x);
  const V* from = weight + row * weight_stride;
  V* to = y + blockIdx.x * y_stride;
  for (int64_t begin = threadIdx.x; begin < size; begin += kAhead * kThreads) {
    V held[kAhead] = {};
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (row >= 0 && begin + k * kThreads < size) held[k] = from[begin + k * kThreads];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (begin + k * kThreads < size) write(to + begin + k * kThreads, held[k]);
  }
}

// N elements as they lie in memory: held so, they take half the registers of numbers in bf16.
template <class T, int N>
using Held = std::conditional_t<N == 1, T, uint4>;

template <class T, int N>
__device__ __forceinline__ void add(const Held<T, N>& held, float (&sum)[N]) {
  if constexpr (N == 1) {
    sum[0] += to_float(held);
  } else {
    const uint32_t part[4] = {held.x, held.y, held.z, held.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(T) == 4) {
        sum[i] += __uint_as_float(part[i]);
      } else {
        sum[2 * i] += __uint_as_float(part[i] << 16);
        sum[2 * i + 1] += __uint_as_float(part[i] & 0xffff0000u);
      }
    }
  }
}

// One block for a token and kThreads * N columns.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Ids ids, const T* dy, int64_t dy_stride, float* gradient, int64_t gradient_stride,
                    int64_t size) {
  __shared__ uint32_t matches[kSteps * kWarps];
  __shared__ int32_t found[kChunk];
  const int64_t token = blockIdx.x, tokens = valid_rows(ids.count, ids.capacity), row = ids.row(token);
  if (row < 0) return;
  for (int64_t begin = 0; begin < token; begin += kChunk) {
    bool earlier = false;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const int64_t i = begin + k * kThreads + threadIdx.x;
      earlier |= i < token && ids.at[i] == row;
    }
    if (__syncthreads_or(earlier) != 0) return;
  }

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t column = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  const bool has_columns = column < size;
  float* target = gradient + row * gradient_stride + column;
  constexpr int G = N < 4 ? N : 4;  // gradient elements that are loaded at once
  float sum[N] = {};
  if (has_columns) {
#pragma unroll
    for (int i = 0; i < N; i += G) {
      const Pack<float, G> pack = load<float, G>(target + i);
#pragma unroll
      for (int j = 0; j < G; ++j) sum[i + j] = pack.at[j];
    }
  }
  for (int64_t begin = token; begin < tokens; begin += kChunk) {
    uint32_t mine = 0;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const int64_t i = begin + k * kThreads + threadIdx.x;
      const bool match = i < tokens && ids.at[i] == row;
      const uint32_t of_warp = __ballot_sync(0xffffffffu, match);
      if (lane == 0) matches[k * kWarps + warp] = of_warp;
      mine |= match ? 1u << k : 0u;
    }
    if (__syncthreads_or(mine != 0) == 0) continue;
    // The matches in the order of the tokens.
    int total = 0;
    for (int word = 0; word < kSteps * kWarps; ++word) {
      if (word % kWarps == warp && (mine >> (word / kWarps) & 1u) != 0)
        found[total + __popc(matches[word] & ((1u << lane) - 1u))] = word * 32 + lane;
      total += __popc(matches[word]);
    }
    __syncthreads();
    for (int first = 0; first < total && has_columns; first += kRowsAhead) {
      Held<T, N> held[kRowsAhead];
#pragma unroll
      for (int k = 0; k < kRowsAhead; ++k)
        if (first + k < total)
          held[k] =
              *reinterpret_cast<const Held<T, N>*>(dy + (begin + found[first + k]) * dy_stride + column);
#pragma unroll
      for (int k = 0; k < kRowsAhead; ++k) {
        if (first + k >= total) break;
        add<T, N>(held[k], sum);
      }
    }
    __syncthreads();  // before the next chunk's matches are written
  }
  if (!has_columns) return;
#pragma unroll
  for (int i = 0; i < N; i += G) {
    Pack<float, G> pack;
#pragma unroll
    for (int j = 0; j < G; ++j) pack.at[j] = sum[i + j];
    write(reinterpret_cast<Pack<float, G>*>(target + i), pack);
  }
}

Ids ids_of(const Operand& ids, const Operand& table) {
  return {ids.as<int32_t>(), ids.count, ids.rows, table.rows};
}

template <class V>
void start_forward(const Operand& ids, const Operand& weight, const Operand& y, cudaStream_t stream) {
  const int64_t elements = static_cast<int64_t>(sizeof(V)) / size_of(y.dtype);
  forward_kernel<V><<<static_cast<unsigned>(y.rows), kThreads, 0, stream>>>(
      ids_of(ids, weight), weight.as<V>(), weight.row_stride / elements, y.as<V>(), y.row_stride / elements,
      y.row_size / elements);
}

template <class T>
void start_backward(const Operand& ids, const Operand& dy, const Operand& gradient, cudaStream_t stream) {
  const auto run = [&]<int N>() {
    const dim3 blocks(static_cast<unsigned>(dy.rows), blocks_for(dy.row_size, kThreads * N));
    backward_kernel<T, N><<<blocks, kThreads, 0, stream>>>(ids_of(ids, gradient), dy.as<T>(), dy.row_stride,
                                                           gradient.as<float>(), gradient.row_stride,
                                                           dy.row_size);
  };
  if (aligned_to(dy, 16) && aligned_to(gradient, 16))
    run.template operator()<kPack<T>>();
  else
    run.template operator()<1>();
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace

void embedding_forward_cuda(const KernelContext& c, void* stream) {
  const Operand &ids = c.input(0), &weight = c.input(1), &y = c.output(0);
  if (y.rows == 0 || y.row_size == 0) return;
  if (y.dtype != DType::f32 && y.dtype != DType::bf16) unsupported_type("embedding");
  if (aligned_to(weight, 16) && aligned_to(y, 16))
    start_forward<uint4>(ids, weight, y, as_stream(stream));
  else if (y.dtype == DType::f32)
    start_forward<uint32_t>(ids, weight, y, as_stream(stream));
  else
    start_forward<uint16_t>(ids, weight, y, as_stream(stream));
  SERVAL_CUDA(cudaGetLastError());
}

void embedding_backward_cuda(const KernelContext& c, void* stream) {
  const Operand &ids = c.input(0), &dy = c.input(1), &gradient = c.update(0);
  if (dy.rows == 0 || dy.row_size == 0) return;
  SERVAL_CUDA_DISPATCH(dy.dtype, start_backward, ids, dy, gradient, as_stream(stream));
}

}  // namespace serval
