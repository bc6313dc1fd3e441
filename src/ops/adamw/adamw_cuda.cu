// The optimizer step on a GPU: one launch takes some hundred tensors, whose table travels with the kernel's
// parameters; a block finds its tensor by its number. Learning rate, step number and clip factor are read on
// the device.
#include <algorithm>
#include <cmath>

#include "ops/common/cuda_kernel.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int64_t kNormBlock = 16384, kStepBlock = 4096;  // elements of one block
constexpr int kUpdates = 5;                               // operands of one tensor

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

bool aligned(const void* data, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

// The same bits on every run; the result is in thread 0.
__device__ double block_sum_in_order(double value) {
  __shared__ double partial[kThreads];
  partial[threadIdx.x] = value;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  return partial[0];
}

struct Gradient {
  const float* data;
  int64_t count;
  int32_t first_block;
  bool vectors;  // lies at a multiple of 16 bytes
};

__device__ __forceinline__ double square(float x) {
  return static_cast<double>(x) * static_cast<double>(x);
}

__global__ void __launch_bounds__(kThreads)
    squares_kernel(const __grid_constant__ Table<Gradient> table, double* partial) {
  const Gradient g = table.of(static_cast<int32_t>(blockIdx.x));
  const int64_t begin = (static_cast<int32_t>(blockIdx.x) - g.first_block) * kNormBlock;
  const int64_t end = min(g.count, begin + kNormBlock);
  double sum = 0;
  int64_t scalars = begin;
  if (g.vectors) {
    scalars = begin + (end - begin) / 4 * 4;
#pragma unroll 4
    for (int64_t i = begin + threadIdx.x * 4; i < scalars; i += kThreads * 4) {
      const auto x = load<float, 4>(g.data + i);
      sum += (square(x.at[0]) + square(x.at[1])) + (square(x.at[2]) + square(x.at[3]));
    }
  }
  for (int64_t i = scalars + threadIdx.x; i < end; i += kThreads) sum += square(g.data[i]);
  sum = block_sum_in_order(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    norm_kernel(const double* partial, int64_t blocks, double max_norm, double* stats) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kThreads) sum += partial[i];
  sum = block_sum_in_order(sum);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum);
  stats[0] = norm;
  stats[1] = max_norm > 0 && norm + 1e-6 > max_norm ? max_norm / (norm + 1e-6) : 1.0;
}

// What all elements of one step share.
struct Factors {
  float beta1, beta2, one_minus_beta1, one_minus_beta2;
  float gradient, keep, step_size, inverse_root, eps;
};
struct Settings {
  double beta1, beta2, eps, weight_decay;
};

// Once a step and not once a block: powers in double are slow.
__global__ void factors_kernel(Settings s, const double* hyper, const double* stats, Factors* factors) {
  const double lr = hyper[0], t = hyper[1];
  *factors = {static_cast<float>(s.beta1),
              static_cast<float>(s.beta2),
              static_cast<float>(1 - s.beta1),
              static_cast<float>(1 - s.beta2),
              static_cast<float>(stats[1]),
              static_cast<float>(1 - lr * s.weight_decay),
              static_cast<float>(lr / (1 - pow(s.beta1, t))),
              static_cast<float>(1 / sqrt(1 - pow(s.beta2, t))),
              static_cast<float>(s.eps)};
}

struct Tensor {
  float *p, *m, *v, *g;
  void* copy;
  int64_t count;
  int32_t columns, copy_stride;  // of the copy, whose rows may be apart
  int32_t first_block;
  bool vectors;   // all lie at multiples of four elements
  bool f32_copy;  // else bf16
};

__device__ __forceinline__ void update(const Factors& f, float gradient, float& p, float& m, float& v) {
  const float g = gradient * f.gradient;
  m = f.beta1 * m + f.one_minus_beta1 * g;
  v = f.beta2 * v + f.one_minus_beta2 * g * g;
  p = p * f.keep - f.step_size * m / (sqrtf(v) * f.inverse_root + f.eps);
}

template <int N>
__device__ __forceinline__ void update_at(const Tensor& t, const Factors& f, int64_t i) {
  const auto g = load<float, N>(t.g + i);
  auto p = load<float, N>(t.p + i), m = load<float, N>(t.m + i), v = load<float, N>(t.v + i);
#pragma unroll
  for (int j = 0; j < N; ++j) update(f, g.at[j], p.at[j], m.at[j], v.at[j]);
  store(t.p + i, p);
  store(t.m + i, m);
  store(t.v + i, v);
  store(t.g + i, Pack<float, N>{});
  if (t.copy == nullptr) return;
  const int64_t place = t.columns == t.copy_stride ? i : i / t.columns * t.copy_stride + i % t.columns;
  if (t.f32_copy) {
    store(static_cast<float*>(t.copy) + place, p);
    return;
  }
  Pack<bf16, N> rounded;
#pragma unroll
  for (int j = 0; j < N; ++j) rounded.at[j] = from_float<bf16>(p.at[j]);
  store(static_cast<bf16*>(t.copy) + place, rounded);
}

__global__ void __launch_bounds__(kThreads)
    step_kernel(const __grid_constant__ Table<Tensor> table, const Factors* factors) {
  const Tensor t = table.of(static_cast<int32_t>(blockIdx.x));
  const Factors f = *factors;
  const int64_t begin = (static_cast<int32_t>(blockIdx.x) - t.first_block) * kStepBlock;
  const int64_t end = min(t.count, begin + kStepBlock);
  int64_t scalars = begin;
  if (t.vectors) {
    scalars = begin + (end - begin) / 4 * 4;
    for (int64_t i = begin + threadIdx.x * 4; i < scalars; i += kThreads * 4) update_at<4>(t, f, i);
  }
  for (int64_t i = scalars + threadIdx.x; i < end; i += kThreads) update_at<1>(t, f, i);
}

}  // namespace

void gradient_norm_cuda(const KernelContext& c, void* stream) {
  double* partial = static_cast<double*>(c.workspace);
  int64_t blocks = 0;
  for_tables<Gradient>(
      c.num_inputs, kNormBlock,
      [&](int i) {
        const Operand& g = c.input(i);
        if (g.dtype != DType::f32) unsupported_type("gradient_norm");
        return Gradient{g.as<float>(), g.rows * g.row_size, 0, aligned(g.data, 16)};
      },
      [&](const Table<Gradient>& table) {
        squares_kernel<<<static_cast<unsigned>(table.blocks), kThreads, 0, as_stream(stream)>>>(
            table, partial + blocks);
        blocks += table.blocks;
      });
  norm_kernel<<<1, kThreads, 0, as_stream(stream)>>>(partial, blocks, c.attributes->number("max_norm"),
                                                     c.update(0).as<double>());
  SERVAL_CUDA(cudaGetLastError());
}

void adamw_cuda(const KernelContext& c, void* stream) {
  const Settings settings{c.attributes->number("beta1"), c.attributes->number("beta2"),
                          c.attributes->number("eps"), c.attributes->number("weight_decay")};
  Factors* factors = static_cast<Factors*>(c.workspace);
  factors_kernel<<<1, 1, 0, as_stream(stream)>>>(settings, c.input(0).as<double>(), c.input(1).as<double>(),
                                                 factors);
  SERVAL_CUDA(cudaGetLastError());
  for_tables<Tensor>(
      c.num_updates / kUpdates, kStepBlock,
      [&](int i) {
        const Operand* o = c.updates + i * kUpdates;
        const Operand& copy = o[4];
        if (o[0].dtype != DType::f32) unsupported_type("adamw");
        const bool f32_copy = copy.dtype == DType::f32;
        const bool vectors =
            aligned(o[0].data, 16) && aligned(o[1].data, 16) && aligned(o[2].data, 16) &&
            aligned(o[3].data, 16) && aligned(copy.data, f32_copy ? 16 : 8) &&
            (copy.row_stride == copy.row_size || (copy.row_stride % 4 == 0 && copy.row_size % 4 == 0));
        return Tensor{o[0].as<float>(),
                      o[1].as<float>(),
                      o[2].as<float>(),
                      o[3].as<float>(),
                      copy.data,
                      o[0].rows * o[0].row_size,
                      static_cast<int32_t>(copy.row_size),
                      static_cast<int32_t>(copy.row_stride),
                      0,
                      vectors,
                      f32_copy};
      },
      [&](const Table<Tensor>& table) {
        step_kernel<<<static_cast<unsigned>(table.blocks), kThreads, 0, as_stream(stream)>>>(table, factors);
      });
}

}  // namespace serval
