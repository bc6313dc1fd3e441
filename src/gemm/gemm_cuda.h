// The products of gemm.h on a GPU, through cuBLASLt (opened at run time). Pointers are device memory; the
// work is queued on `stream` (a cudaStream_t) and the call returns at once. Types (a, b, c): (f32, f32, f32);
// (bf16, bf16, bf16); (bf16, bf16, f32). The bias has the type of A; no low-rank terms. Only a build with
// CUDA defines these.
//
// Which of the library's algorithms computes a shape is measured once a process, while tuning is on, and
// kept; without a measurement it is the library's first proposal. With the same table the bits are the same
// on every run: algorithms that add up in an order of their own choice are never taken.
#pragma once
#include <cstdint>

#include "gemm/gemm.h"

namespace serval {

void gemm_cuda(const GemmArgs& args, void* stream);

// Device memory that the products share, in bytes.
constexpr int64_t kGemmCudaWorkspaceBytes = int64_t{32} << 20;

}  // namespace serval
