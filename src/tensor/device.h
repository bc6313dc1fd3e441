// Where tensors live and kernels run. Everything above src/ops is written against this interface; a build
// without CUDA has the CPU alone.
//
//   std::unique_ptr<Device> device = make_device("auto");      // "cpu", "cuda", "cuda:1"
//   Buffer arena(*device, bytes);
//   device->fill_zero(arena.data(), bytes);
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tensor/device_kind.h"

namespace serval {

// A call of the device's runtime or of one of its libraries failed: the message names the call, the device
// and what may help.
class DeviceError : public UserError {
 public:
  using UserError::UserError;
};

// Work that was recorded once and is started again by one call.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual void launch() = 0;
};

// A few numbers on their way from the device to the host, in the order of the device's work, while the host
// goes on.
class Readback {
 public:
  virtual ~Readback() = default;
  // Bytes of the device into [offset, offset + bytes), as the work started so far leaves them.
  virtual void copy(int64_t offset, const void* source, int64_t bytes) = 0;
  // The bytes, once every copy so far is done.
  virtual const void* wait() = 0;
};

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
  // Memory of the host that the device reads and writes by itself, beside other work: pinned. Not zeroed.
  virtual void* allocate_host(int64_t bytes) { return allocate(bytes); }
  virtual void release_host(void* data) { release(data); }
  // Work on a device is done in the order of these calls and of the kernels that are started on stream().
  // The source may be changed as soon as the call returns.
  virtual void copy_from_host(void* target, const void* source, int64_t bytes) = 0;
  // Returns when the target holds the bytes.
  virtual void copy_to_host(void* target, const void* source, int64_t bytes) = 0;
  // Rows that lie `stride` bytes apart on the device and densely on the host.
  virtual void copy_rows_from_host(void* target, int64_t stride, const void* source, int64_t row_bytes,
                                   int64_t rows) = 0;
  virtual void copy_rows_to_host(void* target, const void* source, int64_t row_bytes, int64_t rows,
                                 int64_t stride) = 0;
  // Fills `rows` rows of `row_bytes` that lie `stride` bytes apart. produce(part, first, bytes) is called for
  // one part of the rows' bytes after another, of whole rows where there are several: it writes the bytes
  // [first, first + bytes) to memory that the device reads while the next part is produced.
  using Produce = std::function<void(void* part, int64_t first, int64_t bytes)>;
  virtual void fill_rows(void* target, int64_t stride, int64_t row_bytes, int64_t rows,
                         const Produce& produce);
  virtual void fill_zero(void* target, int64_t bytes) = 0;
  virtual void synchronize() = 0;

  // Whether work goes on after the call that started it has returned.
  virtual bool asynchronous() const { return false; }
  virtual std::unique_ptr<Readback> make_readback(int64_t bytes);

  // What kernels take: a cudaStream_t, or nullptr on the CPU.
  virtual void* stream() { return nullptr; }
  // Side streams, counted from 0, for work beside stream(). fork() returns one, on which work begins once
  // what stream() was given so far is done; join() makes stream() wait for what that one was given. capture()
  // records them too. On the CPU work is done at once.
  virtual void* fork(int /*side*/) { return nullptr; }
  virtual void join(int /*side*/) {}
  // Records what `work` starts on stream(), without running it. Only where has_graphs().
  virtual bool has_graphs() const { return false; }
  virtual std::unique_ptr<DeviceGraph> capture(const std::function<void()>& work);

  // Points in time on the device's own clock: mark() is ordered with the work; seconds() waits for both.
  virtual int64_t mark() = 0;
  virtual double seconds(int64_t begin, int64_t end) = 0;
  virtual void clear_marks() = 0;
};

std::unique_ptr<Device> make_cpu_device();
// "cpu", "cuda" (the first one), "cuda:1", or "auto": the first CUDA device, else the CPU. A UserError says
// why a device that was asked for cannot be had.
std::unique_ptr<Device> make_device(std::string_view name);

// One line a device, or one that says why there is none: for `serval info`.
std::vector<std::string> describe_cuda();

// One block of a device's memory, or of pinned host memory, given back at the end of its life.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device& device, int64_t bytes) : device_(&device), data_(device.allocate(bytes)), bytes_(bytes) {}
  static Buffer in_host(Device& device, int64_t bytes) {
    Buffer buffer;
    buffer.device_ = &device;
    buffer.data_ = device.allocate_host(bytes);
    buffer.bytes_ = bytes;
    buffer.host_ = true;
    return buffer;
  }
  ~Buffer() {
    if (data_ == nullptr) return;
    if (host_)
      device_->release_host(data_);
    else
      device_->release(data_);
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
    std::swap(host_, other.host_);
  }
  Device* device_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  bool host_ = false;
};

}  // namespace serval
