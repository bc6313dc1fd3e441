#include "gemm/own.h"

#include <algorithm>

#include "base/cpu.h"
#include "base/parallel.h"
#include "gemm/kernels.h"
#include "gemm/own_bf16.h"
#include "gemm/scratch.h"

namespace serval {
namespace {

struct Kernels {
  decltype(&generic::gemm_few_rows) few_rows;
  decltype(&generic::gemm_block) block;
};

Kernels kernels() {
  switch (cpu_isa()) {
    case CpuIsa::generic:
      break;
    case CpuIsa::avx2:
      return {avx2::gemm_few_rows, avx2::gemm_block};
    case CpuIsa::avx512:
      return {avx512::gemm_few_rows, avx512::gemm_block};
    case CpuIsa::avx512_bf16:
    case CpuIsa::amx:
      return {avx512_bf16::gemm_few_rows, avx512_bf16::gemm_block};
  }
  return {generic::gemm_few_rows, generic::gemm_block};
}

Element element_of(DType dtype) {
  return dtype == DType::f32 ? Element::f32 : Element::bf16;
}

KernelArgs kernel_args(const GemmArgs& args) {
  return {.m = args.m,
          .n = args.n,
          .k = args.k,
          .a = args.a,
          .b = args.b,
          .bias = args.bias,
          .c = args.c,
          .a_stride = args.a_stride,
          .b_stride = args.b_stride,
          .c_stride = args.c_stride,
          .in = element_of(args.a_dtype),
          .out = element_of(args.c_dtype),
          .bias_type = element_of(args.bias_dtype),
          .a_transposed = args.a_transposed,
          .b_transposed = args.b_transposed,
          .accumulate = args.accumulate,
          .alpha = static_cast<float>(args.alpha),
          .terms = args.terms.data(),
          .num_terms = static_cast<int64_t>(args.terms.size()),
          .terms_right_transposed = args.terms_right_transposed};
}

}  // namespace

bool is_few_rows(const GemmArgs& args) {
  return args.m <= kFewRows && !args.a_transposed && args.b_transposed;
}

void gemm_own(const GemmArgs& gemm_args) {
  const KernelArgs args = kernel_args(gemm_args);
  const Kernels use = kernels();
  if (is_few_rows(gemm_args)) {
    // Below about 64 KiB of weights a second thread costs more than it saves.
    const int64_t grain = std::max<int64_t>(4, 32768 / std::max<int64_t>(1, args.k));
    return parallel_for(0, args.n, grain, [&](int64_t n0, int64_t n1) { use.few_rows(args, n0, n1); });
  }
  if (args.in == Element::bf16 && cpu_isa() >= CpuIsa::avx512_bf16) return own_bf16_product(args, cpu_isa());
  auto block = [&](int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    static thread_local Scratch scratch;
    use.block(args, m0, m1, n0, n1, scratch.at_least(kBlockScratchBytes));
  };
  if (args.m >= args.n)
    parallel_for(0, args.m, 24, [&](int64_t m0, int64_t m1) { block(m0, m1, 0, args.n); });
  else
    parallel_for(0, args.n, 32, [&](int64_t n0, int64_t n1) { block(0, args.m, n0, n1); });
}

}  // namespace serval
