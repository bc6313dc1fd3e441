// Products of few rows with a weight that is stored [n, k], as decoding does them: every element of the
// weight is read once, at the speed of the memory.
#pragma once
#include "gemm/gemm.h"

namespace serval {

// bf16 operands at 16-byte borders, at most 8 rows.
bool gemv_cuda_takes(const GemmArgs& args);
void gemv_cuda(const GemmArgs& args, void* stream);

}  // namespace serval
