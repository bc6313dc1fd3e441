// Where tensors live and kernels run. Everything above src/ops is written against this interface; a build
// without CUDA has the CPU alone.
//
//   std::unique_ptr<Device> device = make_cpu_device();
//   Buffer arena(*device, bytes);
//   device->fill_zero(arena.data(), bytes);
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace serval {

enum class DeviceKind { cpu, cuda };

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceKind kind() const = 0;
  virtual std::string name() const = 0;
  virtual int64_t total_memory() const = 0;
  virtual int64_t free_memory() const = 0;
  // Aligned to 64 bytes or better; throws UserError with advice when there is not enough.
  virtual void* allocate(int64_t bytes) = 0;
  virtual void release(void* data) = 0;
  virtual void copy_from_host(void* target, const void* source, int64_t bytes) = 0;
  virtual void copy_to_host(void* target, const void* source, int64_t bytes) = 0;
  virtual void fill_zero(void* target, int64_t bytes) = 0;
  virtual void synchronize() = 0;
};

std::unique_ptr<Device> make_cpu_device();

// One block of a device's memory, given back at the end of its life.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device& device, int64_t bytes) : device_(&device), data_(device.allocate(bytes)), bytes_(bytes) {}
  ~Buffer() {
    if (data_ != nullptr) device_->release(data_);
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  Device* device_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace serval
