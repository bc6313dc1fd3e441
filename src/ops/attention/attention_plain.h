// Row-by-row attention: what f64 and generic processors run, and what the tiled kernels are compared with.
#pragma once
#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"

namespace serval::SERVAL_ISA {
namespace {

struct Heads {
  int64_t q, kv, dim, group, window;
  double scale;
};

Heads heads_of(const KernelContext& c) {
  const Attributes& a = *c.attributes;
  const int64_t q = a.integer("heads"), kv = a.integer("kv_heads");
  return {q, kv, a.integer("head_dim"), q / kv, a.integer("window"), a.number("scale")};
}

// Cuts aligned buffers from a thread's memory.
struct Cutter {
  char* at;
  template <class T>
  SERVAL_INLINE T* take(int64_t count) {
    char* const start = at;
    at += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return reinterpret_cast<T*>(start);
  }
};

// A document, or a sequence of the cache: its new tokens are rows begin.. of q, at positions past.. of its
// keys, which start at row `key_begin`.
struct Document {
  int64_t begin, tokens, key_begin, past;
};
// f(i): the packed document i, whose keys are rows beside its queries.
inline auto packed_documents(const int32_t* cu) {
  return [cu](int64_t i) { return Document{cu[i], cu[i + 1] - cu[i], cu[i], 0}; };
}

SERVAL_INLINE int64_t first_key(int64_t query, int64_t begin, int64_t window) {
  const int64_t first = window > 0 ? query - window + 1 : begin;
  return first > begin ? first : begin;
}

template <class T>
Accumulator<T> dot(const T* a, const T* b, int64_t size) {
  Accumulator<T> lanes[8] = {};
  for (int64_t i = 0; i < size; i += 8)
    for (int lane = 0; lane < 8; ++lane) lanes[lane] += load(a[i + lane]) * load(b[i + lane]);
  Accumulator<T> sum = 0;
  for (int lane = 0; lane < 8; ++lane) sum += lanes[lane];
  return sum;
}

// One query row against keys [first, last] of `key(s)` / `value(s)`; online softmax. Returns the log-sum-exp.
template <class T, class Key, class Value>
Accumulator<T> attend(const T* q, int64_t first, int64_t last, const Heads& h, Key key, Value value, T* out) {
  using A = Accumulator<T>;
  A sum = 0, most = -A(3e38), o[256];
  for (int64_t i = 0; i < h.dim; ++i) o[i] = 0;
  for (int64_t s = first; s <= last; ++s) {
    const A score = dot<T>(q, key(s), h.dim) * static_cast<A>(h.scale);
    if (score > most) {
      const A shrink = exponential(most - score);
      sum *= shrink;
      for (int64_t i = 0; i < h.dim; ++i) o[i] *= shrink;
      most = score;
    }
    const A p = exponential(score - most);
    sum += p;
    const T* v = value(s);
    for (int64_t i = 0; i < h.dim; ++i) o[i] += p * load(v[i]);
  }
  for (int64_t i = 0; i < h.dim; ++i) out[i] = store<T>(o[i] / sum);
  return most + static_cast<A>(__builtin_log(static_cast<double>(sum)));
}

void plain_forward(const KernelContext& c) {
  const Operand &q = c.input(0), &k = c.input(1), &v = c.input(2), &cu = c.input(3), &o = c.output(0),
                &lse = c.output(1);
  const Heads h = heads_of(c);
  const int64_t documents = cu.rows - 1;
  with_type(q.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    for (int64_t document = 0; document < documents; ++document) {
      const int64_t begin = cu.as<int32_t>()[document], end = cu.as<int32_t>()[document + 1];
      parallel_for(0, h.q * (end - begin), 4, [&](int64_t from, int64_t to) {
        for (int64_t item = from; item < to; ++item) {
          const int64_t head = item % h.q, t = begin + item / h.q;
          const int64_t column = head / h.group * h.dim;
          lse.row<A>(t)[head] = attend<T>(
              q.row<T>(t) + head * h.dim, first_key(t, begin, h.window), t, h,
              [&](int64_t s) { return k.row<T>(s) + column; },
              [&](int64_t s) { return v.row<T>(s) + column; }, o.row<T>(t) + head * h.dim);
        }
      });
    }
  });
}

// One task a key-value head and document: it alone writes dK, dV of that head and dQ of its group.
void plain_backward(const KernelContext& c) {
  const Operand &d_o = c.input(0), &q = c.input(1), &k = c.input(2), &v = c.input(3), &o = c.input(4),
                &lse = c.input(5), &cu = c.input(6), &dq = c.output(0), &dk = c.output(1), &dv = c.output(2);
  const Heads h = heads_of(c);
  const int64_t documents = cu.rows - 1;
  with_type(q.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    parallel_for(0, documents * h.kv, 1, [&](int64_t from, int64_t to) {
      for (int64_t item = from; item < to; ++item) {
        const int64_t document = item / h.kv, kv = item % h.kv, column = kv * h.dim;
        const int64_t begin = cu.as<int32_t>()[document], end = cu.as<int32_t>()[document + 1];
        // dQ rows, then dK and dV rows, each summed in registers by walking the other side.
        for (int64_t t = begin; t < end && dq; ++t) {
          for (int64_t g = 0; g < h.group; ++g) {
            const int64_t head = kv * h.group + g, at = head * h.dim;
            const A delta = dot<T>(d_o.row<T>(t) + at, o.row<T>(t) + at, h.dim),
                    row_lse = lse.row<A>(t)[head];
            A sum[256] = {};
            for (int64_t s = first_key(t, begin, h.window); s <= t; ++s) {
              const T* key = k.row<T>(s) + column;
              const A p =
                  exponential(dot<T>(q.row<T>(t) + at, key, h.dim) * static_cast<A>(h.scale) - row_lse);
              const A ds = p * (dot<T>(d_o.row<T>(t) + at, v.row<T>(s) + column, h.dim) - delta) *
                           static_cast<A>(h.scale);
              for (int64_t i = 0; i < h.dim; ++i) sum[i] += ds * load(key[i]);
            }
            T* out = dq.row<T>(t) + at;
            for (int64_t i = 0; i < h.dim; ++i) out[i] = store<T>(sum[i]);
          }
        }
        for (int64_t s = begin; s < end; ++s) {
          A sum_k[256] = {}, sum_v[256] = {};
          const T *key = k.row<T>(s) + column, *value = v.row<T>(s) + column;
          const int64_t last = h.window > 0 && s + h.window - 1 < end - 1 ? s + h.window - 1 : end - 1;
          for (int64_t t = s; t <= last; ++t) {
            for (int64_t g = 0; g < h.group; ++g) {
              const int64_t head = kv * h.group + g, at = head * h.dim;
              const T *query = q.row<T>(t) + at, *grad = d_o.row<T>(t) + at;
              const A delta = dot<T>(grad, o.row<T>(t) + at, h.dim);
              const A p =
                  exponential(dot<T>(query, key, h.dim) * static_cast<A>(h.scale) - lse.row<A>(t)[head]);
              const A ds = p * (dot<T>(grad, value, h.dim) - delta) * static_cast<A>(h.scale);
              for (int64_t i = 0; i < h.dim; ++i) {
                sum_k[i] += ds * load(query[i]);
                sum_v[i] += p * load(grad[i]);
              }
            }
          }
          if (dk) {
            T* out = dk.row<T>(s) + column;
            for (int64_t i = 0; i < h.dim; ++i) out[i] = store<T>(sum_k[i]);
          }
          if (dv) {
            T* out = dv.row<T>(s) + column;
            for (int64_t i = 0; i < h.dim; ++i) out[i] = store<T>(sum_v[i]);
          }
        }
      }
    });
  });
}

// Appends the new keys and values of every sequence to the cache.
void append_to_cache(const KernelContext& c) {
  const Operand &k = c.input(1), &v = c.input(2), &cu = c.input(3), &past = c.input(4);
  const Operand &k_cache = c.update(0), &v_cache = c.update(1);
  const int64_t capacity = c.attributes->integer("capacity");
  with_type(k.dtype, [&](auto tag) {
    using T = decltype(tag);
    for (int64_t sequence = 0; sequence < cu.rows - 1; ++sequence) {
      const int64_t begin = cu.as<int32_t>()[sequence], end = cu.as<int32_t>()[sequence + 1];
      for (int64_t t = begin; t < end; ++t) {
        const int64_t slot = sequence * capacity + past.as<int32_t>()[sequence] + (t - begin);
        __builtin_memcpy(k_cache.row<T>(slot), k.row<T>(t), static_cast<size_t>(k.row_size) * sizeof(T));
        __builtin_memcpy(v_cache.row<T>(slot), v.row<T>(t), static_cast<size_t>(v.row_size) * sizeof(T));
      }
    }
  });
}

void plain_cached(const KernelContext& c) {
  const Operand &q = c.input(0), &cu = c.input(3), &past = c.input(4);
  const Operand &k_cache = c.update(0), &v_cache = c.update(1), &o = c.output(0);
  const Heads h = heads_of(c);
  const int64_t capacity = c.attributes->integer("capacity"), sequences = cu.rows - 1;
  with_type(q.dtype, [&](auto tag) {
    using T = decltype(tag);
    for (int64_t sequence = 0; sequence < sequences; ++sequence) {
      const int64_t begin = cu.as<int32_t>()[sequence], end = cu.as<int32_t>()[sequence + 1];
      const int64_t length = past.as<int32_t>()[sequence], base = sequence * capacity;
      parallel_for(0, h.q * (end - begin), 1, [&](int64_t from, int64_t to) {
        for (int64_t item = from; item < to; ++item) {
          const int64_t head = item % h.q, t = begin + item / h.q, column = head / h.group * h.dim;
          const int64_t position = length + (t - begin);
          attend<T>(
              q.row<T>(t) + head * h.dim, first_key(position, 0, h.window), position, h,
              [&](int64_t s) { return k_cache.row<T>(base + s) + column; },
              [&](int64_t s) { return v_cache.row<T>(base + s) + column; }, o.row<T>(t) + head * h.dim);
        }
      });
    }
  });
}

}  // namespace
}  // namespace serval::SERVAL_ISA
