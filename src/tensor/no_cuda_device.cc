#include "tensor/cuda_device.h"

namespace serval {

CudaDevices find_cuda_devices() {
  return {0, "this build has no CUDA"};
}

std::unique_ptr<Device> make_cuda_device(int) {
  fail("this build has no CUDA");
}

std::vector<std::string> describe_cuda() {
  return {"none: this build has no CUDA"};
}

}  // namespace serval
