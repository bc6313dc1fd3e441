#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {
namespace {

// 1 / sqrt(mean(s^2) + eps)
template <class T>
Accumulator<T> inverse_rms(const T* s, int64_t size, double eps) {
  using A = Accumulator<T>;
  const A sum = sum_in_lanes<A>(size, [&](int64_t i) { return load(s[i]) * load(s[i]); });
  return A(1) / square_root(sum / static_cast<A>(size) + static_cast<A>(eps));
}

}  // namespace

void rms_norm_forward(const KernelContext& c) {
  const Operand &x = c.input(0), &weight = c.input(1), &branch = c.input(2), &y = c.output(0),
                &sum = c.output(1);
  const double eps = c.attributes->number("eps");
  with_type(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    const T* w = weight.as<T>();
    const int64_t size = x.row_size;
    parallel_for(0, x.rows, 1 + 8192 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* s = x.row<T>(row);
        if (branch) {
          const T* b = branch.row<T>(row);
          T* o = sum.row<T>(row);
#pragma omp simd
          for (int64_t i = 0; i < size; ++i) o[i] = store<T>(load(s[i]) + load(b[i]));
          s = o;
        }
        const auto r = inverse_rms(s, size, eps);
        T* o = y.row<T>(row);
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) o[i] = store<T>(load(s[i]) * r * load(w[i]));
      }
    });
  });
}

void rms_norm_backward(const KernelContext& c) {
  const Operand &dy = c.input(0), &s = c.input(1), &weight = c.input(2), &d_sum = c.input(3);
  const Operand &d_weight = c.update(0), &ds = c.output(0), &y = c.output(1);
  const double eps = c.attributes->number("eps");
  with_type(s.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const T* w = weight.as<T>();
    const int64_t size = s.row_size;
    A* inverse = d_weight ? static_cast<A*>(c.workspace) : nullptr;
    parallel_for(0, s.rows, 1 + 4096 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T *sr = s.row<T>(row), *dr = dy.row<T>(row);
        const A r = inverse_rms(sr, size, eps);
        if (inverse != nullptr) inverse[row] = r;
        const A dot =
            sum_in_lanes<A>(size, [&](int64_t i) { return load(dr[i]) * load(w[i]) * load(sr[i]); });
        if (y) {
          T* again = y.row<T>(row);
#pragma omp simd
          for (int64_t i = 0; i < size; ++i) again[i] = store<T>(load(sr[i]) * r * load(w[i]));
        }
        const A scale = dot * r * r * r / static_cast<A>(size);
        T* o = ds.row<T>(row);
        if (d_sum) {
          const T* extra = d_sum.row<T>(row);
#pragma omp simd
          for (int64_t i = 0; i < size; ++i)
            o[i] = store<T>(load(dr[i]) * load(w[i]) * r - load(sr[i]) * scale + load(extra[i]));
        } else {
#pragma omp simd
          for (int64_t i = 0; i < size; ++i)
            o[i] = store<T>(load(dr[i]) * load(w[i]) * r - load(sr[i]) * scale);
        }
      }
    });
    if (!d_weight) return;
    // Each thread owns columns and walks the rows in order: the same sum on any thread count.
    A* g = d_weight.as<A>();
    parallel_for(0, size, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < s.rows; ++row) {
        const T *sr = s.row<T>(row), *dr = dy.row<T>(row);
        const A r = inverse[row];
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) g[i] += load(dr[i]) * load(sr[i]) * r;
      }
    });
  });
}

}  // namespace serval::SERVAL_ISA
