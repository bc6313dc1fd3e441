#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int64_t kBlock = 256;  // elements whose maximum is taken before any index is looked for

template <class T>
int32_t argmax(const T* x, int64_t size) {
  using A = Accumulator<T>;
  A best = load(x[0]);
  int32_t index = 0;
  bool nan = best != best;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const int64_t end = begin + kBlock < size ? begin + kBlock : size;
    A most = load(x[begin]);
    int unordered = 0;
    for (int64_t i = begin; i < end; ++i) {
      const A value = load(x[i]);
      most = value > most ? value : most;
      unordered |= value != value ? 1 : 0;
    }
    if (unordered != 0) nan = true;
    if (!(most > best)) continue;
    best = most;
    for (int64_t i = begin; i < end; ++i) {
      if (load(x[i]) != most) continue;
      index = static_cast<int32_t>(i);
      break;
    }
  }
  return nan ? -1 : index;
}

}  // namespace

void argmax_rows(const KernelContext& c) {
  const Operand &x = c.input(0), &out = c.output(0);
  with_type(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    parallel_for(0, x.rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) *out.row<int32_t>(row) = argmax(x.row<T>(row), x.row_size);
    });
  });
}

}  // namespace serval::SERVAL_ISA
