// Products by our own kernels: for few rows, where they read weights at the speed of memory, and for whatever
// oneDNN has no optimised code for (bf16 without AVX-512, processors without AVX2).
#pragma once
#include "gemm/gemm.h"

namespace serval {

bool is_few_rows(const GemmArgs& args);  // a product of decoding: y = x W^T with at most eight rows of x
void gemm_own(const GemmArgs& args);     // f32 and bf16

}  // namespace serval
