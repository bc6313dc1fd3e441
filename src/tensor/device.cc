#include "tensor/device.h"

#include <charconv>

#include "tensor/cuda_device.h"

namespace serval {

std::unique_ptr<DeviceGraph> Device::capture(const std::function<void()>&) {
  SERVAL_CHECK(false, "{} has no graphs", name());
}

std::unique_ptr<Device> make_device(std::string_view name) {
  if (name == "cpu") return make_cpu_device();
  const CudaDevices found = find_cuda_devices();
  if (name == "auto") {
    if (found.count > 0) return make_cuda_device(0);
    return make_cpu_device();
  }
  int index = 0;
  const std::string_view prefix = "cuda:";
  if (name.starts_with(prefix)) {
    const char* end = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data() + prefix.size(), end, index);
    if (error != std::errc() || at != end || index < 0)
      fail_usage("device is '{}': expected auto, cpu, cuda or cuda:N", name);
  } else if (name != "cuda") {
    fail_usage("device is '{}': expected auto, cpu, cuda or cuda:N", name);
  }
  if (found.count == 0)
    fail("device {} cannot be used: {}; --device cpu runs without it", name, found.why_none);
  if (index >= found.count)
    fail("device {} does not exist: there {} cuda:0{}", name, found.count == 1 ? "is" : "are",
         found.count == 1 ? "" : fmt::format(" to cuda:{}", found.count - 1));
  return make_cuda_device(index);
}

}  // namespace serval
