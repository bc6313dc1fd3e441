#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {
namespace {

template <class T, class F>
void for_rows(const Operand& shape, F f) {
  const int64_t grain = shape.row_size > 0 ? 1 + 16384 / shape.row_size : 1;
  parallel_for(0, shape.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) f(row);
  });
}

}  // namespace

void elementwise_add(const KernelContext& c) {
  const Operand &x = c.input(0), &y = c.input(1), &out = c.output(0);
  with_type(out.dtype, [&](auto tag) {
    using T = decltype(tag);
    for_rows<T>(out, [&](int64_t row) {
      const T *a = x.row<T>(row), *b = y.row<T>(row);
      T* o = out.row<T>(row);
      for (int64_t i = 0; i < out.row_size; ++i) o[i] = store<T>(load(a[i]) + load(b[i]));
    });
  });
}

void elementwise_accumulate(const KernelContext& c) {
  const Operand &part = c.input(0), &target = c.update(0);
  with_type(target.dtype, [&](auto tag) {
    using T = decltype(tag);
    for_rows<T>(part, [&](int64_t row) {
      const T* a = part.row<T>(row);
      T* o = target.row<T>(row);
      for (int64_t i = 0; i < part.row_size; ++i) o[i] = store<T>(load(o[i]) + load(a[i]));
    });
  });
}

void elementwise_copy(const KernelContext& c) {
  const Operand &in = c.input(0), &out = c.output(0);
  with_type(out.dtype, [&](auto tag) {
    using T = decltype(tag);
    for_rows<T>(out, [&](int64_t row) {
      __builtin_memcpy(out.row<T>(row), in.row<T>(row), static_cast<size_t>(out.row_size) * sizeof(T));
    });
  });
}

void elementwise_zero(const KernelContext& c) {
  const Operand& out = c.update(0);
  with_type(out.dtype, [&](auto tag) {
    using T = decltype(tag);
    for_rows<T>(out, [&](int64_t row) {
      __builtin_memset(static_cast<void*>(out.row<T>(row)), 0, static_cast<size_t>(out.row_size) * sizeof(T));
    });
  });
}

void elementwise_gather(const KernelContext& c) {
  const Operand &x = c.input(0), &rows = c.input(1), &out = c.output(0);
  with_type(out.dtype, [&](auto tag) {
    using T = decltype(tag);
    for_rows<T>(out, [&](int64_t row) {
      __builtin_memcpy(out.row<T>(row), x.row<T>(rows.as<int32_t>()[row]),
                       static_cast<size_t>(out.row_size) * sizeof(T));
    });
  });
}

}  // namespace serval::SERVAL_ISA
