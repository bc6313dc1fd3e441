// A device that passes every call on to another one: what a test wants otherwise, it overrides.
#pragma once
#include <memory>
#include <string>

#include "tensor/device.h"

namespace serval::testing {

class DeviceWrapper : public Device {
 public:
  explicit DeviceWrapper(std::unique_ptr<Device> device) : device_(std::move(device)) {}
  DeviceKind kind() const override { return device_->kind(); }
  std::string name() const override { return device_->name(); }
  int64_t total_memory() const override { return device_->total_memory(); }
  int64_t free_memory() const override { return device_->free_memory(); }
  void* allocate(int64_t bytes) override { return device_->allocate(bytes); }
  void release(void* data) override { device_->release(data); }
  void copy_from_host(void* target, const void* source, int64_t bytes) override {
    device_->copy_from_host(target, source, bytes);
  }
  void copy_to_host(void* target, const void* source, int64_t bytes) override {
    device_->copy_to_host(target, source, bytes);
  }
  void copy_rows_from_host(void* target, int64_t stride, const void* source, int64_t row_bytes,
                           int64_t rows) override {
    device_->copy_rows_from_host(target, stride, source, row_bytes, rows);
  }
  void copy_rows_to_host(void* target, const void* source, int64_t row_bytes, int64_t rows,
                         int64_t stride) override {
    device_->copy_rows_to_host(target, source, row_bytes, rows, stride);
  }
  void fill_zero(void* target, int64_t bytes) override { device_->fill_zero(target, bytes); }
  void synchronize() override { device_->synchronize(); }
  void* stream() override { return device_->stream(); }
  int64_t mark() override { return device_->mark(); }
  double seconds(int64_t begin, int64_t end) override { return device_->seconds(begin, end); }
  void clear_marks() override { device_->clear_marks(); }

 private:
  std::unique_ptr<Device> device_;
};

}  // namespace serval::testing
