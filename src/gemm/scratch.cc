#include "gemm/scratch.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "base/error.h"

namespace serval {
namespace {

struct Count {
  std::mutex mutex;
  int64_t now = 0, highest = 0;
};

Count& count() {
  static Count& shared = *new Count;  // outlives the thread-local blocks that report to it
  return shared;
}

void add(int64_t bytes) {
  const std::lock_guard<std::mutex> lock(count().mutex);
  count().now += bytes;
  count().highest = std::max(count().highest, count().now);
}

}  // namespace

Scratch::~Scratch() {
  release();
}

void* Scratch::at_least(int64_t bytes) {
  if (bytes <= size_) return data_;
  release();
  constexpr int64_t kPage = 4096;
  const int64_t rounded = (bytes + kPage - 1) / kPage * kPage;
  data_ = std::aligned_alloc(kPage, static_cast<size_t>(rounded));
  if (data_ == nullptr) fail("out of memory: a matrix product needs {} bytes of scratch memory", rounded);
  size_ = rounded;
  add(rounded);
  return data_;
}

void Scratch::release() {
  std::free(data_);
  data_ = nullptr;
  add(-size_);
  size_ = 0;
}

int64_t scratch_high_water() {
  const std::lock_guard<std::mutex> lock(count().mutex);
  return count().highest;
}

}  // namespace serval
