// Products by a plain tiled kernel: for shapes and alignments that the library refuses. Slow, exact in f32.
#pragma once
#include "gemm/gemm.h"

namespace serval {

void gemm_plain_cuda(const GemmArgs& args, void* stream);

}  // namespace serval
