// The gradient norm and the optimizer step of 32-bit and bf16 moments.
#include "ops/adamw/adamw_cuda.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int64_t kNormBlock = 16384, kStepBlock = 4096;  // elements of one block
constexpr int kUpdates = 5;                               // operands of one tensor

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

__global__ void factors_kernel(double beta1, double beta2, double eps, double weight_decay,
                               const double* hyper, const double* stats, const int64_t* random,
                               AdamWFactors* factors) {
  const double lr = hyper[0], t = hyper[1];
  AdamWFactors f{};
  f.beta1 = static_cast<float>(beta1);
  f.beta2 = static_cast<float>(beta2);
  f.one_minus_beta1 = static_cast<float>(1 - beta1);
  f.one_minus_beta2 = static_cast<float>(1 - beta2);
  f.gradient = static_cast<float>(stats[1]);
  f.keep = static_cast<float>(1 - lr * weight_decay);
  f.step_size = static_cast<float>(lr / (1 - pow(beta1, t)));
  f.inverse_root = static_cast<float>(1 / sqrt(1 - pow(beta2, t)));
  f.eps = static_cast<float>(eps);
  if (random != nullptr) {
    f.seed = static_cast<uint64_t>(random[0]);
    f.step = static_cast<uint32_t>(random[1]);
    f.micro_step = static_cast<uint32_t>(random[2]);
  }
  *factors = f;
}

struct Tensor {
  void *p, *m, *v;
  float* g;
  void* copy;
  uint64_t stream;
  int64_t count;
  int32_t columns, p_stride, copy_stride;  // rows of the parameter and of the copy may be apart
  int32_t first_block;
  bool vectors;  // all can be read in packs of four elements
  bool bf16_p, bf16_moments, bf16_copy;
};

// P and M: types of the parameter and of the moments.
template <int N, class P, class M, bool kStochastic>
__device__ __forceinline__ void update_at(const Tensor& t, const AdamWFactors& f, int64_t i) {
  const int64_t place = element_place(i, t.columns, t.p_stride);
  const auto g = load<float, N>(t.g + i);
  auto p = load_floats<P, N>(t.p, place);
  auto m = load_floats<M, N>(t.m, i), v = load_floats<M, N>(t.v, i);
#pragma unroll
  for (int j = 0; j < N; ++j) adamw_update(f, g.at[j], p.at[j], m.at[j], v.at[j]);
  store(t.g + i, Pack<float, N>{});
  store_floats<M, N>(t.m, i, m);
  constexpr bool kBf16P = sizeof(P) == 2, kBf16M = sizeof(M) == 2;
  if constexpr (kStochastic && (kBf16P || kBf16M)) {
    const auto words = adamw_words<N>(f, t.stream, i);
    if constexpr (kBf16P)
      store_stochastic<N>(t.p, place, p, words, for_weight);
    else
      store_floats<P, N>(t.p, place, p);
    if constexpr (kBf16M)
      store_stochastic<N>(t.v, i, v, words, for_second_moment);
    else
      store_floats<M, N>(t.v, i, v);
  } else {
    store_floats<P, N>(t.p, place, p);
    store_floats<M, N>(t.v, i, v);
  }
  if (t.copy == nullptr) return;
  const int64_t copied = element_place(i, t.columns, t.copy_stride);
  if (t.bf16_copy)
    store_floats<bf16, N>(t.copy, copied, p);
  else
    store_floats<float, N>(t.copy, copied, p);
}

template <class P, class M, bool kStochastic>
__device__ __forceinline__ void update_range(const Tensor& t, const AdamWFactors& f, int64_t begin,
                                             int64_t end) {
  int64_t scalars = begin;
  if (t.vectors) {
    scalars = begin + (end - begin) / 4 * 4;
    for (int64_t i = begin + threadIdx.x * 4; i < scalars; i += kThreads * 4)
      update_at<4, P, M, kStochastic>(t, f, i);
  }
  for (int64_t i = scalars + threadIdx.x; i < end; i += kThreads) update_at<1, P, M, kStochastic>(t, f, i);
}

// kNarrow: some tensors are bf16.
template <bool kNarrow, bool kStochastic>
__global__ void __launch_bounds__(kThreads)
    step_kernel(const __grid_constant__ Table<Tensor> table, const AdamWFactors* factors) {
  const Tensor& t = table.of(static_cast<int32_t>(blockIdx.x));
  const AdamWFactors f = *factors;
  const int64_t begin = (static_cast<int32_t>(blockIdx.x) - t.first_block) * kStepBlock;
  const int64_t end = min(t.count, begin + kStepBlock);
  if (!kNarrow || (!t.bf16_p && !t.bf16_moments))
    update_range<float, float, false>(t, f, begin, end);
  else if (t.bf16_p && t.bf16_moments)
    update_range<bf16, bf16, kStochastic>(t, f, begin, end);
  else if (t.bf16_p)
    update_range<bf16, float, kStochastic>(t, f, begin, end);
  else
    update_range<float, bf16, kStochastic>(t, f, begin, end);
}

Tensor make_tensor(const KernelContext& c, int i) {
  const Operand* o = c.updates + i * kUpdates;
  const Operand &p = o[0], &m = o[1], &v = o[2], &g = o[3], &copy = o[4];
  if (g.dtype != DType::f32) unsupported_type("adamw");
  Tensor t{};
  t.p = p.data, t.m = m.data, t.v = v.data, t.g = g.as<float>(), t.copy = copy.data;
  t.stream = adamw_stream(c, i);
  t.count = p.rows * p.row_size;
  t.columns = static_cast<int32_t>(p.row_size);
  t.p_stride = static_cast<int32_t>(p.row_stride);
  t.copy_stride = static_cast<int32_t>(copy.row_stride);
  t.vectors = packs_of_four(p) && packs_of_four(m) && packs_of_four(v) && packs_of_four(g) &&
              (!copy || packs_of_four(copy));
  t.bf16_p = p.dtype == DType::bf16;
  t.bf16_moments = m.dtype == DType::bf16;
  t.bf16_copy = copy.dtype == DType::bf16;
  return t;
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

namespace cuda {

const AdamWFactors* prepare_adamw_factors(const KernelContext& c, void* stream) {
  AdamWFactors* factors = static_cast<AdamWFactors*>(c.workspace);
  const Attributes& a = *c.attributes;
  factors_kernel<<<1, 1, 0, as_stream(stream)>>>(a.number("beta1"), a.number("beta2"), a.number("eps"),
                                                 a.number("weight_decay"), c.input(0).as<double>(),
                                                 c.input(1).as<double>(), c.input(2).as<int64_t>(), factors);
  SERVAL_CUDA(cudaGetLastError());
  return factors;
}

}  // namespace cuda

void adamw_cuda(const KernelContext& c, void* stream) {
  const AdamWFactors* factors = prepare_adamw_factors(c, stream);
  bool narrow = false;
  for (int i = 0; i < c.num_updates; i += kUpdates)
    narrow = narrow || c.update(i).dtype == DType::bf16 || c.update(i + 1).dtype == DType::bf16;
  const auto kernel = !narrow                    ? step_kernel<false, false>
                      : rounds_stochastically(c) ? step_kernel<true, true>
                                                 : step_kernel<true, false>;
  for_tables<Tensor>(
      c.num_updates / kUpdates, kStepBlock, [&](int i) { return make_tensor(c, i); },
      [&](const Table<Tensor>& table) {
        kernel<<<static_cast<unsigned>(table.blocks), kThreads, 0, as_stream(stream)>>>(table, factors);
      });
}

}  // namespace serval
