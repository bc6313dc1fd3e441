// The only header that brings in the GPU runtime, so that the same sources can be built for another one some
// day. Included by src/tensor, src/gemm, src/quant, src/ops and src/run alone, and only in files that CMake
// lists for CUDA.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>
