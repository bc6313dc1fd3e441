#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"
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

template <class A>
A inverse_rms(const A* x, int64_t size, double eps) {
  const A sum = sum_in_lanes<A>(size, [&](int64_t i) { return x[i] * x[i]; });
  return A(1) / square_root(sum / static_cast<A>(size) + static_cast<A>(eps));
}

// Rotates a head held in `x`; direction -1 is the inverse (the transposed matrix).
template <class A>
void rotate(A* x, const A* cos, const A* sin, const Layout& l, A direction) {
  if (l.pair_step == 1) {
    A *low = x, *high = x + l.half;
#pragma omp simd
    for (int64_t i = 0; i < l.half; ++i) {
      const A a = low[i], b = high[i], s = direction * sin[i];
      low[i] = a * cos[i] - b * s;
      high[i] = b * cos[i] + a * s;
    }
    return;
  }
  for (int64_t i = 0; i < l.half; ++i) {
    const A a = x[2 * i], b = x[2 * i + 1], s = direction * sin[i];
    x[2 * i] = a * cos[i] - b * s;
    x[2 * i + 1] = b * cos[i] + a * s;
  }
}

template <class T>
void forward_heads(const Operand& in, const Operand& out, const Operand& norm, int64_t row,
                   const Accumulator<T>* cos, const Accumulator<T>* sin, const Layout& l, double eps) {
  using A = Accumulator<T>;
  for (int64_t head = 0; head < in.row_size; head += l.head_dim) {
    const T* x = in.row<T>(row) + head;
    T* o = out.row<T>(row) + head;
    A values[ops::kMaxRopeHeadDim];
    for (int64_t i = 0; i < l.head_dim; ++i) values[i] = load(x[i]);
    if (norm) {
      const A r = inverse_rms(values, l.head_dim, eps);
      const T* w = norm.as<T>();
      for (int64_t i = 0; i < l.head_dim; ++i) values[i] = values[i] * r * load(w[i]);
    }
    rotate<A>(values, cos, sin, l, A(1));
    for (int64_t i = 0; i < l.head_dim; ++i) o[i] = store<T>(values[i]);
  }
}

// d_norm_row: this row's contribution to the gradient of the norm weight, or nullptr.
template <class T>
void backward_heads(const Operand& d_out, const Operand& in, const Operand& d_in, const Operand& norm,
                    int64_t row, const Accumulator<T>* cos, const Accumulator<T>* sin, const Layout& l,
                    double eps, Accumulator<T>* d_norm_row) {
  using A = Accumulator<T>;
  if (d_norm_row != nullptr)
    for (int64_t i = 0; i < l.head_dim; ++i) d_norm_row[i] = 0;
  for (int64_t head = 0; head < in.row_size; head += l.head_dim) {
    const T* d = d_out.row<T>(row) + head;
    A g[ops::kMaxRopeHeadDim];
    for (int64_t i = 0; i < l.head_dim; ++i) g[i] = load(d[i]);
    rotate<A>(g, cos, sin, l, A(-1));
    if (norm) {
      const T *x = in.row<T>(row) + head, *w = norm.as<T>();
      A values[ops::kMaxRopeHeadDim];
      for (int64_t i = 0; i < l.head_dim; ++i) values[i] = load(x[i]);
      const A r = inverse_rms(values, l.head_dim, eps);
      if (d_norm_row != nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < l.head_dim; ++i) d_norm_row[i] += g[i] * values[i] * r;
      }
      for (int64_t i = 0; i < l.head_dim; ++i) g[i] *= load(w[i]);
      const A dot = sum_in_lanes<A>(l.head_dim, [&](int64_t i) { return g[i] * values[i]; });
      const A scale = dot * r * r * r / static_cast<A>(l.head_dim);
      for (int64_t i = 0; i < l.head_dim; ++i) g[i] = g[i] * r - values[i] * scale;
    }
    if (d_in) {
      T* o = d_in.row<T>(row) + head;
      for (int64_t i = 0; i < l.head_dim; ++i) o[i] = store<T>(g[i]);
    }
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
