#include "ops/cuda_kernels.h"

namespace serval {

void rms_norm_forward_cuda(const KernelContext& context, void* stream);

CudaKernel find_cuda_kernel(std::string_view op) {
  if (op == "rms_norm") return rms_norm_forward_cuda;
  return nullptr;
}

}  // namespace serval
