#include <stdexcept>
#include <string>

#include "ops/common/cuda_kernel.h"

namespace serval::cuda {

int multiprocessor_count() {
  int device = 0, count = 0;
  SERVAL_CUDA(cudaGetDevice(&device));
  SERVAL_CUDA(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

void unsupported_type(const char* what) {
  throw std::invalid_argument(std::string(what) + ": programs in f64 run on the CPU (--device cpu)");
}

}  // namespace serval::cuda
