#include "base/error.h"
#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {

void embedding_forward(const KernelContext& c) {
  const Operand &ids = c.input(0), &weight = c.input(1), &out = c.output(0);
  with_type(out.dtype, [&](auto tag) {
    using T = decltype(tag);
    parallel_for(0, out.rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int32_t id = ids.as<int32_t>()[row];
        if (id < 0 || id >= weight.rows)
          check_failed("id < vocab_size", "embedding_cpu.cc", __LINE__, c.name);
        __builtin_memcpy(out.row<T>(row), weight.row<T>(id), static_cast<size_t>(out.row_size) * sizeof(T));
      }
    });
  });
}

// Each thread owns a range of columns and walks the tokens in order: no atomics, the same sums on any thread
// count.
void embedding_backward(const KernelContext& c) {
  const Operand &ids = c.input(0), &dy = c.input(1), &gradient = c.update(0);
  with_type(dy.dtype, [&](auto tag) {
    using T = decltype(tag);
    using G = Accumulator<T>;
    parallel_for(0, dy.row_size, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < dy.rows; ++row) {
        G* g = gradient.row<G>(ids.as<int32_t>()[row]);
        const T* d = dy.row<T>(row);
        for (int64_t i = begin; i < end; ++i) g[i] += load(d[i]);
      }
    });
  });
}

}  // namespace serval::SERVAL_ISA
