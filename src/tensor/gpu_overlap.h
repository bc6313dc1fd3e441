// Kernels that may start while the one before them in the stream still runs (programmatic dependent launch,
// sm_90 and newer; captured in graphs too). Decoding is a chain of kernels of a few microseconds: this hides
// what each takes to start. Only .cu files include it.
//
//   __global__ void kernel(...) {
//     prefetch_to_cache(...);  // at most: brings memory nearer, reads nothing
//     await_previous();        // by every block, before its first read and its first write
//     ...
//   launch_overlapped(rows <= kOverlapRows, kernel, grid, block, stream, arguments...);
//
// A kernel launched so has finished only after the one before it, so later kernels need not look further
// back.
#pragma once
#include <utility>

#include "tensor/gpu.h"

namespace serval {

// Above this the kernels are long and their start does not matter.
constexpr int64_t kOverlapRows = 8;

// Lets the next kernel start, and waits until the previous one has finished and its writes are seen. Does
// nothing in a kernel that was launched as usual.
__device__ __forceinline__ void await_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
#endif
}

// Asks for memory to be brought to the L2 cache; bytes and address are multiples of 16. Always allowed: what
// is written there later is written in that cache.
__device__ __forceinline__ void prefetch_to_cache(const void* from, uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)),
               "r"(bytes));
#endif
}

inline bool device_overlaps_kernels() {
  static const bool overlaps = [] {
    int device = 0, major = 0;
    SERVAL_CUDA(cudaGetDevice(&device));
    SERVAL_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    return major >= 9;
  }();
  return overlaps;
}

template <class... Parameters, class... Arguments>
void launch_overlapped(bool overlap, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                       cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlap && device_overlaps_kernels() ? 1 : 0;
  SERVAL_CUDA(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...));
}

}  // namespace serval
