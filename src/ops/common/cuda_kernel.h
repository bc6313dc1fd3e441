// What the CUDA kernels of all ops share: conversions, 16-byte vectors, reductions whose order never changes,
// and launches. Only .cu files include it. A kernel takes raw pointers, sizes, row strides and a stream.
//
// Rows past a tensor's count: on a GPU the host does not know the count, so most kernels compute all rows of
// the capacity. What keeps this sound, and every kernel must keep: each output row past the count is written
// with finite values, and with zeros where it is a gradient (of hidden states, not of parameters). It follows
// by itself for row-wise ops; embedding, attention and the head, where rows meet, write those rows as zeros.
#pragma once
#include <cstdint>

#include "program/kernel_context.h"
#include "tensor/gpu.h"

namespace serval::cuda {

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
  return __bfloat162float(x);
}
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return __float2bfloat16(x);
}

// N elements that are loaded and stored at once; N * sizeof(T) is at most 16.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};
// Elements of T in 16 bytes.
template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

template <class T, int N>
__device__ __forceinline__ Pack<T, N> load(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <class T, int N>
__device__ __forceinline__ void store(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// 16 bytes as they lie in memory, and their kPack<T> numbers: held so, numbers take half the registers.
template <class T>
__device__ __forceinline__ void unpack_word(const uint4& word, float* x) {
  const uint32_t part[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      x[i] = __uint_as_float(part[i]);
    } else {
      x[2 * i] = __uint_as_float(part[i] << 16);
      x[2 * i + 1] = __uint_as_float(part[i] & 0xffff0000u);
    }
  }
}
template <class T>
__device__ __forceinline__ uint4 packed_word(const float* x) {
  uint32_t part[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      part[i] = __float_as_uint(x[i]);
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
      part[i] = reinterpret_cast<const uint32_t&>(pair);
    }
  }
  return {part[0], part[1], part[2], part[3]};
}

// Makes the compiler forget what it knows of a word: otherwise it would hold the converted numbers, in twice
// the registers, from one use to the next.
__device__ __forceinline__ void forget(uint4& word) {
  asm volatile("" : "+r"(word.x), "+r"(word.y), "+r"(word.z), "+r"(word.w));
}

// Whether rows of this operand can be read in packs of `bytes`; an absent operand can.
inline bool aligned_to(const Operand& x, int64_t bytes) {
  const int64_t size = size_of(x.dtype);
  return x.data == nullptr || (reinterpret_cast<uintptr_t>(x.data) % static_cast<uintptr_t>(bytes) == 0 &&
                               x.row_stride * size % bytes == 0 && x.row_size * size % bytes == 0);
}

// Sums over a warp and over a block of `kThreads` threads: the same bits in every thread and on every run.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  return value;
}
// May be called several times by one kernel.
template <int kThreads>
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float partial[kThreads / 32];
  value = warp_sum(value);
  __syncthreads();  // an earlier call's partial sums have been read
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / 32; ++warp) total += partial[warp];
  return total;
}

// The valid rows of an operand, on the device.
__device__ __forceinline__ int64_t valid_rows(const int32_t* count, int64_t capacity) {
  return count == nullptr ? capacity : min(static_cast<int64_t>(max(*count, 0)), capacity);
}

inline cudaStream_t as_stream(void* stream) {
  return static_cast<cudaStream_t>(stream);
}
inline unsigned blocks_for(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}
// Multiprocessors of the current device.
int multiprocessor_count();

}  // namespace serval::cuda

// Calls f<T>(...) for the element type of an operand: f32 or bf16.
#define SERVAL_CUDA_DISPATCH(dtype, function, ...) \
  do {                                             \
    if ((dtype) == DType::f32)                     \
      function<float>(__VA_ARGS__);                \
    else if ((dtype) == DType::bf16)               \
      function<::serval::cuda::bf16>(__VA_ARGS__); \
    else                                           \
      ::serval::cuda::unsupported_type(#function); \
  } while (false)

namespace serval::cuda {
// Throws: f64 programs run on the CPU.
[[noreturn]] void unsupported_type(const char* what);
}  // namespace serval::cuda
