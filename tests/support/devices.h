// The devices that tests run on: the CPU and, where this machine has one, its first GPU.
#pragma once
#include <memory>
#include <vector>

#include "tensor/cuda_device.h"
#include "tensor/device.h"

namespace serval::testing {

// Shared by all tests of a process: making a GPU's takes a moment. nullptr where there is none.
inline std::shared_ptr<Device> device_of(DeviceKind kind) {
  static const std::shared_ptr<Device> cpu = make_cpu_device();
  static const std::shared_ptr<Device> cuda =
      find_cuda_devices().count > 0 ? std::shared_ptr<Device>(make_cuda_device(0)) : nullptr;
  return kind == DeviceKind::cpu ? cpu : cuda;
}

inline std::vector<std::shared_ptr<Device>> devices() {
  std::vector<std::shared_ptr<Device>> all = {device_of(DeviceKind::cpu)};
  if (auto cuda = device_of(DeviceKind::cuda)) all.push_back(cuda);
  return all;
}

}  // namespace serval::testing
