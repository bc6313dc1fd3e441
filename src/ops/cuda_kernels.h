// The CUDA kernels by op. A build without CUDA lists no_cuda.cc instead of cuda_kernels.cc, and every op
// answers nullptr.
#pragma once
#include <string_view>

#include "program/kernel_context.h"

namespace serval {

// Runs one call on a stream (a cudaStream_t); device pointers in the operands.
using CudaKernel = void (*)(const KernelContext& context, void* stream);

CudaKernel find_cuda_kernel(std::string_view op);  // nullptr: the op has none (yet)

}  // namespace serval
