#include "gemm/scratch.h"

#include <sys/mman.h>

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
  // Large pages, where the system has them, for what is read again and again.
  constexpr int64_t kSmallPage = 4096, kLargePage = int64_t{2} << 20;
  const int64_t page = bytes >= kLargePage ? kLargePage : kSmallPage;
  const int64_t rounded = (bytes + page - 1) / page * page;
  data_ = std::aligned_alloc(static_cast<size_t>(page), static_cast<size_t>(rounded));
  if (data_ == nullptr) fail("out of memory: a matrix product needs {} bytes of scratch memory", rounded);
  if (page == kLargePage) madvise(data_, static_cast<size_t>(rounded), MADV_HUGEPAGE);
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
