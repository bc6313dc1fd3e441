// Products of bf16 by our own kernels for AVX-512-BF16 and the matrix unit (AMX). The bits do not depend on
// the number of threads.
#pragma once
#include "base/cpu.h"
#include "gemm/kernels.h"

namespace serval {

void own_bf16_product(const KernelArgs& args, CpuIsa isa);  // avx512_bf16 or amx

// For code that multiplies panels by itself: the cache that packed operands should stay in, and how many
// threads so many multiply-adds are worth, one inside a parallel region.
int64_t level_2_cache_bytes();
int64_t threads_worth(double multiply_adds, CpuIsa isa);

}  // namespace serval
