// A device that is known by its description alone: programs are planned for it, on a machine that has none.
// It has no memory to give.
//
//   const auto h200 = make_described_device({DeviceKind::cuda, "NVIDIA H200", int64_t{140} << 30});
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "tensor/device.h"

namespace serval {

struct DeviceDescription {
  DeviceKind kind = DeviceKind::cpu;
  std::string name;
  int64_t memory_bytes = 0;  // all of it counts as free
};

std::unique_ptr<Device> make_described_device(DeviceDescription description);

}  // namespace serval
