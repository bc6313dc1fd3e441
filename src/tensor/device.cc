#include "tensor/device.h"

#include <charconv>
#include <cstddef>
#include <utility>

#include "tensor/cuda_device.h"

namespace serval {

std::unique_ptr<DeviceGraph> Device::capture(const std::function<void()>&) {
  SERVAL_CHECK(false, "{} has no graphs", name());
}

namespace {

// Of a device whose work is done when the call returns.
class HostReadback final : public Readback {
 public:
  HostReadback(Device& device, int64_t bytes) : device_(device), bytes_(static_cast<size_t>(bytes)) {}
  void copy(int64_t offset, const void* source, int64_t bytes) override {
    SERVAL_CHECK(offset >= 0 && offset + bytes <= static_cast<int64_t>(bytes_.size()));
    device_.copy_to_host(bytes_.data() + offset, source, bytes);
  }
  const void* wait() override { return bytes_.data(); }

 private:
  Device& device_;
  std::vector<std::byte> bytes_;
};

}  // namespace

void Device::fill_rows(void* target, int64_t stride, int64_t row_bytes, int64_t rows,
                       const Produce& produce) {
  SERVAL_CHECK(kind() == DeviceKind::cpu, "{} is not filled in place", name());
  if (rows > 1 && stride == row_bytes) row_bytes *= std::exchange(rows, 1);
  if (row_bytes == 0) return;
  for (int64_t row = 0; row < rows; ++row)
    produce(static_cast<char*>(target) + row * stride, row * row_bytes, row_bytes);
}

std::unique_ptr<Readback> Device::make_readback(int64_t bytes) {
  return std::make_unique<HostReadback>(*this, bytes);
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
