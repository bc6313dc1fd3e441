// Our own product kernels, compiled once per instruction set (see serval_isa_sources). This header holds
// plain data and declarations only: an inline function here could reach older processors in a newer
// instruction set.
#pragma once
#include <cstdint>

namespace serval {

enum class Element : uint8_t { f32, bf16 };

// As GemmArgs, for f32 and bf16.
struct KernelArgs {
  int64_t m, n, k;
  const void *a, *b, *bias;
  void* c;
  int64_t a_stride, b_stride, c_stride;
  Element in, out, bias_type;
  bool a_transposed, b_transposed, accumulate;
  float alpha;
};

constexpr int64_t kFewRows = 8;

// Blocks that stay in the caches, and what they take of scratch memory: packed A, packed B, and sums.
constexpr int64_t kBlockM = 192, kBlockN = 128, kBlockK = 256;
constexpr int64_t kBlockScratchBytes = 4 * (kBlockM * kBlockK + kBlockK * kBlockN + kBlockM * kBlockN);

// few_rows: the columns [n0, n1) of C for m <= kFewRows, A as [m,k] and B as [n,k]; reads B once, row by row.
// block: the part [m0, m1) x [n0, n1) of C for any operands. Both run on the calling thread alone; the order
// of each sum does not depend on the part.
#define SERVAL_DECLARE_GEMM_KERNELS(isa)                                                                  \
  namespace isa {                                                                                         \
  void gemm_few_rows(const KernelArgs& args, int64_t n0, int64_t n1);                                     \
  void gemm_block(const KernelArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1, void* scratch); \
  }
SERVAL_DECLARE_GEMM_KERNELS(generic)
SERVAL_DECLARE_GEMM_KERNELS(avx2)
SERVAL_DECLARE_GEMM_KERNELS(avx512)
SERVAL_DECLARE_GEMM_KERNELS(avx512_bf16)
#undef SERVAL_DECLARE_GEMM_KERNELS

}  // namespace serval
