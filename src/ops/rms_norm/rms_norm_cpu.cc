#include "ops/common/kernel.h"
#include "ops/common/lanes.h"

namespace serval::SERVAL_ISA {
namespace {

// 1 / sqrt(mean of squares + eps); forward and backward take the same one.
template <class A>
SERVAL_INLINE A inverse_rms(Lanes<A> squares, int64_t size, double eps) {
  return A(1) / square_root(sum_of<A>(squares) / static_cast<A>(size) + static_cast<A>(eps));
}

// The normed row; backward gives it again with the same bits.
template <class T>
SERVAL_INLINE void write_normed(const T* s, const T* w, int64_t size, Accumulator<T> r, T* y) {
  for_lanes(size, [&](int64_t i, auto count) {
    write_lanes(y + i, read_lanes(s + i, count) * r * read_lanes(w + i, count), count);
  });
}

}  // namespace

void rms_norm_forward(const KernelContext& c) {
  const Operand &x = c.input(0), &weight = c.input(1), &branch = c.input(2), &y = c.output(0),
                &sum = c.output(1);
  const double eps = c.attributes->number("eps");
  with_type(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const T* w = weight.as<T>();
    const int64_t size = x.row_size;
    parallel_for(0, x.rows, 1 + 8192 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* s = x.row<T>(row);
        Lanes<A> squares{};
        if (branch) {
          const T *first = s, *b = branch.row<T>(row);
          T* o = sum.row<T>(row);
          for_lanes(size, [&](int64_t i, auto count) {
            write_lanes(o + i, read_lanes(first + i, count) + read_lanes(b + i, count), count);
            const auto rounded = read_lanes(o + i, count);
            squares += rounded * rounded;
          });
          s = o;
        } else {
          for_lanes(size, [&](int64_t i, auto count) {
            const auto value = read_lanes(s + i, count);
            squares += value * value;
          });
        }
        write_normed(s, w, size, inverse_rms<A>(squares, size, eps), y.row<T>(row));
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
        const T *sr = s.row<T>(row), *dr = dy.row<T>(row), *extra = d_sum ? d_sum.row<T>(row) : nullptr;
        Lanes<A> squares{}, dots{};
        for_lanes(size, [&](int64_t i, auto count) {
          const auto value = read_lanes(sr + i, count);
          squares += value * value;
          dots += read_lanes(dr + i, count) * read_lanes(w + i, count) * value;
        });
        const A r = inverse_rms<A>(squares, size, eps);
        if (inverse != nullptr) inverse[row] = r;
        if (y) write_normed(sr, w, size, r, y.row<T>(row));
        const A scale = sum_of<A>(dots) * r * r * r / static_cast<A>(size);
        T* o = ds.row<T>(row);
        for_lanes(size, [&](int64_t i, auto count) {
          auto d =
              read_lanes(dr + i, count) * read_lanes(w + i, count) * r - read_lanes(sr + i, count) * scale;
          if (extra != nullptr) d += read_lanes(extra + i, count);
          write_lanes(o + i, d, count);
        });
      }
    });
    if (!d_weight) return;
    // Each thread owns columns and walks the rows in order: the same sum on any thread count.
    A* g = d_weight.as<A>();
    parallel_for(0, size, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < s.rows; ++row) {
        const T *sr = s.row<T>(row), *dr = dy.row<T>(row);
        const A r = inverse[row];
        for_lanes(end - begin, [&](int64_t j, auto count) {
          const int64_t i = begin + j;
          write_lanes(g + i,
                      read_lanes(g + i, count) + read_lanes(dr + i, count) * read_lanes(sr + i, count) * r,
                      count);
        });
      }
    });
  });
}

}  // namespace serval::SERVAL_ISA
