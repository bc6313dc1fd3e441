#include <cstring>

#include "base/parallel.h"
#include "program/kernel_context.h"

namespace serval {

void run_host_copy(const KernelContext& c);

// Both directions: all memory is the host's.
void run_host_copy(const KernelContext& c) {
  const Operand &from = c.input(0), &to = c.output(0);
  const int64_t size = size_of(to.dtype), row_bytes = to.row_size * size;
  const int64_t grain = row_bytes > 0 ? 1 + (int64_t{1} << 16) / row_bytes : 1;
  parallel_for(0, to.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      std::memcpy(to.as<char>() + row * to.row_stride * size, from.as<char>() + row * from.row_stride * size,
                  static_cast<size_t>(row_bytes));
  });
}

}  // namespace serval
