// How fast a device is and how much memory it has: what `serval plan` computes the expected time from, and,
// for a GPU, plans for on a machine without it. `serval bench --profile FILE` writes one; some are built in.
//
//   {"name": "NVIDIA H200", "kind": "cuda", "memory_bytes": 150108766208,
//   "product_flops_per_second": 6.97e14,
//    "efficiency": 0.81}
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/device.h"
#include "tensor/dtype.h"

namespace serval {

struct DeviceProfile {
  std::string name;
  double product_rate = 0;         // FLOP/s of large products in the compute type
  double efficiency = 0.6;         // share of it that a step reaches
  std::optional<DeviceKind> kind;  // absent: rates alone
  int64_t memory_bytes = 0;        // with a kind
};

// The name of a built-in profile, or a file. UserErrors name what is missing or wrong.
DeviceProfile read_device_profile(const std::string& name_or_path);
std::vector<std::string> built_in_profiles();

// The GPU that a profile describes, to plan for; nullptr where it has rates alone or is of a CPU.
std::unique_ptr<Device> device_of_profile(const DeviceProfile& profile);

// Measures now, in `compute`.
DeviceProfile measure_device_profile(Device& device, DType compute);

}  // namespace serval
