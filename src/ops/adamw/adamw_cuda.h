// What the AdamW kernels of a GPU share. One launch takes some hundred tensors, whose table travels with the
// kernel's parameters; a block finds its tensor by its number. Learning rate, step number, clip factor and
// seed are read on the device. Only .cu files include it.
#pragma once
#include <cmath>

#include "base/philox.h"
#include "ops/adamw/rounding.h"
#include "ops/common/cuda_kernel.h"

namespace serval::cuda {

// Kernels take up to 32,764 bytes of parameters.
constexpr int64_t kTableBytes = 30 << 10;

template <class Entry>
struct Table {
  static constexpr int kMost = static_cast<int>(kTableBytes / sizeof(Entry));
  int32_t size = 0, blocks = 0;
  Entry at[kMost];

  // The entry of a block: the last one that begins at or before it.
  __device__ const Entry& of(int32_t block) const {
    int low = 0, high = size - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (at[middle].first_block <= block)
        low = middle;
      else
        high = middle - 1;
    }
    return at[low];
  }
};

// Fills tables with the entries that `entry(i)` makes, i < size, and launches each full one and the last.
// Empty tensors take no part.
template <class Entry, class MakeEntry, class Launch>
void for_tables(int size, int64_t per_block, MakeEntry make_entry, Launch launch) {
  Table<Entry> table;
  for (int i = 0; i < size; ++i) {
    Entry entry = make_entry(i);
    if (entry.count == 0) continue;
    entry.first_block = table.blocks;
    table.at[table.size++] = entry;
    table.blocks += static_cast<int32_t>(blocks_for(entry.count, per_block));
    if (table.size < Table<Entry>::kMost) continue;
    launch(table);
    table.size = table.blocks = 0;
  }
  if (table.size > 0) launch(table);
  SERVAL_CUDA(cudaGetLastError());
}

inline bool aligned(const void* data, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}
// Whether packs of four elements can be read from rows that may be apart.
inline bool packs_of_four(const Operand& x) {
  return aligned(x.data, static_cast<uintptr_t>(4 * size_of(x.dtype))) &&
         (x.row_stride == x.row_size || (x.row_stride % 4 == 0 && x.row_size % 4 == 0));
}

// What all elements of one step share.
struct AdamWFactors {
  float beta1, beta2, one_minus_beta1, one_minus_beta2;
  float gradient, keep, step_size, inverse_root, eps;
  uint32_t step, micro_step;
  uint64_t seed;
};
constexpr int64_t kAdamWWorkspace = 64;
static_assert(sizeof(AdamWFactors) <= kAdamWWorkspace);

// Computes the factors into the call's workspace, where the kernels that follow read them: once a step and
// not once a block, for powers in double are slow.
const AdamWFactors* prepare_adamw_factors(const KernelContext& c, void* stream);

// Whether bf16 is rounded stochastically.
inline bool rounds_stochastically(const KernelContext& c) {
  return static_cast<bool>(c.input(2));
}
inline uint64_t adamw_stream(const KernelContext& c, int tensor) {
  return rounds_stochastically(c)
             ? static_cast<uint64_t>(c.attributes->integers("streams")[static_cast<size_t>(tensor)])
             : 0;
}

__device__ __forceinline__ void adamw_update(const AdamWFactors& f, float gradient, float& p, float& m,
                                             float& v) {
  const float g = gradient * f.gradient;
  m = f.beta1 * m + f.one_minus_beta1 * g;
  v = f.beta2 * v + f.one_minus_beta2 * g * g;
  p = p * f.keep - f.step_size * m / (sqrtf(v) * f.inverse_root + f.eps);
}

// The random words of elements [first, first + N), first a multiple of N = 1 or 4.
template <int N>
__device__ __forceinline__ Pack<uint32_t, N> adamw_words(const AdamWFactors& f, uint64_t stream,
                                                         int64_t first) {
  const PhiloxKey key = philox_key(f.seed, stream, f.step, f.micro_step);
  const auto block = philox_block(key, static_cast<uint64_t>(first) / 4);
  Pack<uint32_t, N> words;
  if constexpr (N == 4) {
    words = {block[0], block[1], block[2], block[3]};
  } else {
    const auto lane = static_cast<uint32_t>(first) % 4;
    words.at[0] = lane == 0 ? block[0] : lane == 1 ? block[1] : lane == 2 ? block[2] : block[3];
  }
  return words;
}

// Loads and stores N elements as floats.
template <class T, int N>
__device__ __forceinline__ Pack<float, N> load_floats(const void* data, int64_t place) {
  const auto raw = load<T, N>(static_cast<const T*>(data) + place);
  Pack<float, N> values;
#pragma unroll
  for (int i = 0; i < N; ++i) values.at[i] = to_float(raw.at[i]);
  return values;
}
template <class T, int N>
__device__ __forceinline__ void store_floats(void* data, int64_t place, const Pack<float, N>& values) {
  Pack<T, N> rounded;
#pragma unroll
  for (int i = 0; i < N; ++i) rounded.at[i] = from_float<T>(values.at[i]);
  store(static_cast<T*>(data) + place, rounded);
}
template <int N, class Half>
__device__ __forceinline__ void store_stochastic(void* data, int64_t place, const Pack<float, N>& values,
                                                 const Pack<uint32_t, N>& words, Half half) {
  Pack<uint16_t, N> rounded;
#pragma unroll
  for (int i = 0; i < N; ++i) rounded.at[i] = bf16_bits_stochastic(values.at[i], half(words.at[i]));
  store(static_cast<uint16_t*>(data) + place, rounded);
}

// Where an element lies whose rows of `columns` are `stride` apart.
__device__ __forceinline__ int64_t element_place(int64_t element, int32_t columns, int32_t stride) {
  return columns == stride ? element : element / columns * stride + element % columns;
}

}  // namespace serval::cuda
