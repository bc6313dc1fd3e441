// The CUDA side of device.h: cuda_device.cc in a build with CUDA, no_cuda_device.cc in one without.
#pragma once
#include <memory>
#include <string>

#include "tensor/device.h"

namespace serval {

struct CudaDevices {
  int count = 0;
  std::string why_none;  // where count is 0
};
CudaDevices find_cuda_devices();
std::unique_ptr<Device> make_cuda_device(int index);

}  // namespace serval
