// Memory that products need beside their operands: one block a thread, kept and grown, and counted.
//
//   static thread_local Scratch scratch;
//   float* tile = static_cast<float*>(scratch.at_least(bytes));
#pragma once
#include <cstdint>

namespace serval {

class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* at_least(int64_t bytes);  // page-aligned; what it held is lost when it grows

 private:
  void release();
  void* data_ = nullptr;
  int64_t size_ = 0;
};

int64_t scratch_high_water();  // the largest sum over all blocks so far

}  // namespace serval
