#include "tensor/described_device.h"

#include <utility>

namespace serval {
namespace {

class DescribedDevice final : public Device {
 public:
  explicit DescribedDevice(DeviceDescription description) : description_(std::move(description)) {}
  DeviceKind kind() const override { return description_.kind; }
  std::string name() const override { return description_.name; }
  int64_t total_memory() const override { return description_.memory_bytes; }
  int64_t free_memory() const override { return description_.memory_bytes; }
  void* allocate(int64_t) override { refuse(); }
  void release(void*) override { refuse(); }
  void copy_from_host(void*, const void*, int64_t) override { refuse(); }
  void copy_to_host(void*, const void*, int64_t) override { refuse(); }
  void copy_rows_from_host(void*, int64_t, const void*, int64_t, int64_t) override { refuse(); }
  void copy_rows_to_host(void*, const void*, int64_t, int64_t, int64_t) override { refuse(); }
  void fill_zero(void*, int64_t) override { refuse(); }
  void synchronize() override { refuse(); }
  int64_t mark() override { refuse(); }
  double seconds(int64_t, int64_t) override { refuse(); }
  void clear_marks() override { refuse(); }

 private:
  [[noreturn]] void refuse() const { fail("{} is only described here: nothing can run on it", name()); }

  DeviceDescription description_;
};

}  // namespace

std::unique_ptr<Device> make_described_device(DeviceDescription description) {
  return std::make_unique<DescribedDevice>(std::move(description));
}

}  // namespace serval
