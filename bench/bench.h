// What the benches of products and ops share: arguments, timing, memory.
#pragma once
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string_view>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "tensor/device.h"

namespace serval {

// The first two arguments of every bench: threads, and the instruction set.
inline void set_threads_and_isa(int argc, char** argv) {
  if (argc > 1) set_num_threads(std::atoi(argv[1]));
  for (CpuIsa isa : usable_cpu_isas())
    if (argc > 2 && argv[2] == std::string_view(name_of(isa))) set_cpu_isa(isa);
}

// One thread is timed by its processor time, so that it may run on a busy machine.
inline double now() {
  timespec time{};
  clock_gettime(num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The best of up to `most` calls of f, of at least `least` and about so many seconds.
template <class F>
double best_seconds(int least, int most, double seconds, F&& f) {
  double best = 1e30, total = 0;
  for (int run = 0; run < most && (total < seconds || run < least); ++run) {
    const double start = now();
    f();
    const double taken = now() - start;
    best = std::min(best, taken);
    total += taken;
  }
  return best;
}

// Memory as programs have it: pieces of one large allocation, in large pages where the system has them.
class Arena {
 public:
  explicit Arena(int64_t bytes) : device_(make_cpu_device()), buffer_(*device_, bytes) {}
  void clear() { used_ = 0; }
  char* take(int64_t bytes) {
    char* const data = static_cast<char*>(buffer_.data()) + used_;
    used_ += (bytes + 4095) / 4096 * 4096;
    SERVAL_CHECK(used_ <= buffer_.bytes());
    return data;
  }

 private:
  std::unique_ptr<Device> device_;
  Buffer buffer_;
  int64_t used_ = 0;
};

}  // namespace serval
