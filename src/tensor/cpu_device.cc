#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "base/error.h"
#include "base/text.h"
#include "tensor/device.h"

namespace serval {
namespace {

int64_t meminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  for (int64_t kib = 0; file >> name >> kib; std::getline(file, unit))
    if (name == key) return kib * 1024;
  return 0;
}

class CpuDevice final : public Device {
 public:
  DeviceKind kind() const override { return DeviceKind::cpu; }
  std::string name() const override { return "CPU"; }
  int64_t total_memory() const override { return meminfo("MemTotal:"); }
  int64_t free_memory() const override { return meminfo("MemAvailable:"); }

  // Anonymous pages: zero at first, resident only once touched, and in huge pages where the system allows.
  void* allocate(int64_t bytes) override {
    const size_t size = static_cast<size_t>(bytes > 0 ? bytes : 1);
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
      fail(
          "cannot allocate {} of memory: {}; a shorter max_length, a smaller batch or gradient_checkpointing "
          "needs less",
          human_bytes(bytes), std::strerror(errno));
    ::madvise(data, size, MADV_HUGEPAGE);
    sizes_[data] = size;
    return data;
  }
  void release(void* data) override {
    const auto it = sizes_.find(data);
    SERVAL_CHECK(it != sizes_.end());
    ::munmap(data, it->second);
    sizes_.erase(it);
  }
  void copy_from_host(void* target, const void* source, int64_t bytes) override {
    std::memcpy(target, source, static_cast<size_t>(bytes));
  }
  void copy_to_host(void* target, const void* source, int64_t bytes) override {
    std::memcpy(target, source, static_cast<size_t>(bytes));
  }
  void copy_rows_from_host(void* target, int64_t stride, const void* source, int64_t row_bytes,
                           int64_t rows) override {
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(static_cast<char*>(target) + row * stride,
                  static_cast<const char*>(source) + row * row_bytes, static_cast<size_t>(row_bytes));
  }
  void copy_rows_to_host(void* target, const void* source, int64_t row_bytes, int64_t rows,
                         int64_t stride) override {
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(static_cast<char*>(target) + row * row_bytes,
                  static_cast<const char*>(source) + row * stride, static_cast<size_t>(row_bytes));
  }
  void fill_zero(void* target, int64_t bytes) override { std::memset(target, 0, static_cast<size_t>(bytes)); }
  void synchronize() override {}

  int64_t mark() override {
    marks_.push_back(std::chrono::steady_clock::now());
    return static_cast<int64_t>(marks_.size()) - 1;
  }
  double seconds(int64_t begin, int64_t end) override {
    return std::chrono::duration<double>(marks_[static_cast<size_t>(end)] -
                                         marks_[static_cast<size_t>(begin)])
        .count();
  }
  void clear_marks() override { marks_.clear(); }

 private:
  std::vector<std::chrono::steady_clock::time_point> marks_;
  std::map<void*, size_t> sizes_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device() {
  return std::make_unique<CpuDevice>();
}

}  // namespace serval
