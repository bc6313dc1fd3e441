// The only header that brings in the GPU runtime, so that the same sources can be built for another one some
// day. Included by src/tensor, src/gemm, src/quant, src/ops and src/run alone, and only in files that CMake
// lists for CUDA.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace serval {

// Throws a DeviceError that names the call, the device and what may help.
void check_cuda(cudaError_t status, const char* call);

}  // namespace serval

// SERVAL_CUDA(cudaMemcpyAsync(...)). After a kernel launch: SERVAL_CUDA(cudaGetLastError()).
#define SERVAL_CUDA(call) ::serval::check_cuda((call), #call)
