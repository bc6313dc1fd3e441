#include "ops/common/kernel.h"
#include "ops/common/lanes.h"
#include "ops/rope/rope.h"

namespace serval::SERVAL_ISA {
namespace {

struct Layout {
  int64_t head_dim, half;      // half: pairs that are rotated
  int64_t pair_step, partner;  // element of pair i: i * pair_step; its partner lies `partner` further
};

Layout layout_of(const KernelContext& c, const Operand& cos) {
  const bool interleaved = c.attributes->integer("interleaved") != 0;
  const int64_t half = cos.row_size;
  return {c.attributes->integer("head_dim"), half, interleaved ? 2 : 1, interleaved ? 1 : half};
}

// Rotates a head that read(i, count) gives, and passes it to write(i, lanes, count); direction -1 is the
// inverse (the transposed matrix).
template <class A, class Read, class Write>
SERVAL_INLINE void rotate(const A* cos, const A* sin, const Layout& l, A direction, Read read, Write write) {
  if (l.pair_step == 1) {
    for_lanes(l.half, [&](int64_t i, auto count) {
      const Lanes<A> a = read(i, count), b = read(l.half + i, count), c = read_lanes(cos + i, count),
                     s = direction * read_lanes(sin + i, count);
      write(i, a * c - b * s, count);
      write(l.half + i, b * c + a * s, count);
    });
    for_lanes(l.head_dim - 2 * l.half,
              [&](int64_t i, auto count) { write(2 * l.half + i, read(2 * l.half + i, count), count); });
    return;
  }
  A x[ops::kMaxRopeHeadDim];
  for_lanes(l.head_dim, [&](int64_t i, auto count) { write_lanes(x + i, read(i, count), count); });
  for (int64_t i = 0; i < l.half; ++i) {
    const A a = x[2 * i], b = x[2 * i + 1], s = direction * sin[i];
    x[2 * i] = a * cos[i] - b * s;
    x[2 * i + 1] = b * cos[i] + a * s;
  }
  for_lanes(l.head_dim, [&](int64_t i, auto count) { write(i, read_lanes(x + i, count), count); });
}

template <class T>
SERVAL_INLINE Accumulator<T> inverse_rms(const T* x, int64_t size, double eps) {
  using A = Accumulator<T>;
  Lanes<A> squares{};
  for_lanes(size, [&](int64_t i, auto count) {
    const auto value = read_lanes(x + i, count);
    squares += value * value;
  });
  return A(1) / square_root(sum_of<A>(squares) / static_cast<A>(size) + static_cast<A>(eps));
}

template <class T>
void forward_heads(const Operand& in, const Operand& out, const Operand& norm, int64_t row,
                   const Accumulator<T>* cos, const Accumulator<T>* sin, const Layout& l, double eps) {
  using A = Accumulator<T>;
  const T* w = norm.as<T>();
  for (int64_t head = 0; head < in.row_size; head += l.head_dim) {
    const T* x = in.row<T>(row) + head;
    T* o = out.row<T>(row) + head;
    const auto store_lanes = [&](int64_t i, Lanes<A> y, auto count) { write_lanes(o + i, y, count); };
    if (w == nullptr) {
      const auto plain = [&](int64_t i, auto count) { return read_lanes(x + i, count); };
      rotate<A>(cos, sin, l, A(1), plain, store_lanes);
      continue;
    }
    const A r = inverse_rms(x, l.head_dim, eps);
    const auto normed = [&](int64_t i, auto count) {
      return read_lanes(x + i, count) * r * read_lanes(w + i, count);
    };
    rotate<A>(cos, sin, l, A(1), normed, store_lanes);
  }
}

// d_norm_row: this row's contribution to the gradient of the norm weight, or nullptr.
template <class T>
void backward_heads(const Operand& d_out, const Operand& in, const Operand& d_in, const Operand& norm,
                    int64_t row, const Accumulator<T>* cos, const Accumulator<T>* sin, const Layout& l,
                    double eps, Accumulator<T>* d_norm_row) {
  using A = Accumulator<T>;
  const T* w = norm.as<T>();
  if (d_norm_row != nullptr)
    for (int64_t i = 0; i < l.head_dim; ++i) d_norm_row[i] = 0;
  for (int64_t head = 0; head < in.row_size; head += l.head_dim) {
    const T* d = d_out.row<T>(row) + head;
    T* o = d_in ? d_in.row<T>(row) + head : nullptr;
    const auto gradient = [&](int64_t i, auto count) { return read_lanes(d + i, count); };
    if (w == nullptr) {
      if (o != nullptr)
        rotate<A>(cos, sin, l, A(-1), gradient,
                  [&](int64_t i, Lanes<A> dx, auto count) { write_lanes(o + i, dx, count); });
      continue;
    }
    A g[ops::kMaxRopeHeadDim];
    rotate<A>(cos, sin, l, A(-1), gradient,
              [&](int64_t i, Lanes<A> dx, auto count) { write_lanes(g + i, dx, count); });
    const T* x = in.row<T>(row) + head;
    const A r = inverse_rms(x, l.head_dim, eps);
    Lanes<A> dots{};
    for_lanes(l.head_dim, [&](int64_t i, auto count) {
      const auto value = read_lanes(x + i, count), grad = read_lanes(g + i, count);
      if (d_norm_row != nullptr)
        write_lanes(d_norm_row + i, read_lanes(d_norm_row + i, count) + grad * value * r, count);
      dots += grad * read_lanes(w + i, count) * value;
    });
    if (o == nullptr) continue;
    const A scale = sum_of<A>(dots) * r * r * r / static_cast<A>(l.head_dim);
    for_lanes(l.head_dim, [&](int64_t i, auto count) {
      const auto weighted = read_lanes(g + i, count) * read_lanes(w + i, count);
      write_lanes(o + i, weighted * r - read_lanes(x + i, count) * scale, count);
    });
  }
}

template <class A>
void sum_rows(const A* rows, int64_t count, int64_t stride, int64_t size, A* target) {
  for (int64_t row = 0; row < count; ++row)
    for (int64_t i = 0; i < size; ++i) target[i] += rows[row * stride + i];
}

}  // namespace

void rope_table(const KernelContext& c) {
  const Operand &positions = c.input(0), &cos = c.output(0), &sin = c.output(1);
  const double* frequency = c.attributes->numbers("inverse_frequency").data();
  const double scaling = c.attributes->number("scaling");
  parallel_for(0, cos.rows, 32, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t i = 0; i < cos.row_size; ++i) {
        // The angle is rounded to f32 first, as transformers computes it.
        const float angle =
            static_cast<float>(positions.as<int32_t>()[row]) * static_cast<float>(frequency[i]);
        const double cosine = __builtin_cos(static_cast<double>(angle)) * scaling;
        const double sine = __builtin_sin(static_cast<double>(angle)) * scaling;
        if (cos.dtype == DType::f64) {
          cos.row<double>(row)[i] = cosine;
          sin.row<double>(row)[i] = sine;
        } else {
          cos.row<float>(row)[i] = static_cast<float>(cosine);
          sin.row<float>(row)[i] = static_cast<float>(sine);
        }
      }
    }
  });
}

void qk_norm_rope_forward(const KernelContext& c) {
  const Operand &q = c.input(0), &k = c.input(1), &cos = c.input(2), &sin = c.input(3);
  const Layout l = layout_of(c, cos);
  const double eps = c.attributes->number("eps");
  with_type(q.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    parallel_for(0, q.rows, 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        forward_heads<T>(q, c.output(0), c.input(4), row, cos.row<A>(row), sin.row<A>(row), l, eps);
        forward_heads<T>(k, c.output(1), c.input(5), row, cos.row<A>(row), sin.row<A>(row), l, eps);
      }
    });
  });
}

void qk_norm_rope_backward(const KernelContext& c) {
  const Operand &dq = c.input(0), &dk = c.input(1), &q = c.input(2), &k = c.input(3), &cos = c.input(4),
                &sin = c.input(5);
  const Operand &d_q_norm = c.update(0), &d_k_norm = c.update(1);
  const Layout l = layout_of(c, cos);
  const double eps = c.attributes->number("eps");
  with_type(q.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    A* parts = static_cast<A*>(c.workspace);
    const int64_t stride = 2 * l.head_dim;
    parallel_for(0, dq.rows, 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const A *cr = cos.row<A>(row), *sr = sin.row<A>(row);
        A* part = parts + row * stride;
        backward_heads<T>(dq, q, c.output(0), c.input(6), row, cr, sr, l, eps, d_q_norm ? part : nullptr);
        backward_heads<T>(dk, k, c.output(1), c.input(7), row, cr, sr, l, eps,
                          d_k_norm ? part + l.head_dim : nullptr);
      }
    });
    if (d_q_norm) sum_rows(parts, dq.rows, stride, l.head_dim, d_q_norm.as<A>());
    if (d_k_norm) sum_rows(parts + l.head_dim, dq.rows, stride, l.head_dim, d_k_norm.as<A>());
  });
}

}  // namespace serval::SERVAL_ISA
