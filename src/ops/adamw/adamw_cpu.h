// What the AdamW kernels of the CPU share: the factors of a step, and a run of elements that is read into
// wide numbers, updated and rounded back. Compiled once per instruction set, like all CPU kernels.
#pragma once
#include "ops/adamw/rounding.h"
#include "ops/common/kernel.h"
#include "ops/common/kernel_math.h"
#include "ops/common/philox_words.h"

namespace serval {

// Elements that are updated at once; a tensor's runs begin at multiples of it.
constexpr int64_t kAdamWRun = 256;

template <class A>
struct AdamWFactors {
  A beta1, beta2, one_minus_beta1, one_minus_beta2, gradient, keep, step_size, inverse_root, eps;
};

template <class A>
SERVAL_INLINE AdamWFactors<A> adamw_factors(const KernelContext& c) {
  const double lr = c.input(0).as<double>()[0], t = c.input(0).as<double>()[1],
               factor = c.input(1).as<double>()[1];
  const double beta1 = c.attributes->number("beta1"), beta2 = c.attributes->number("beta2");
  return {static_cast<A>(beta1),
          static_cast<A>(beta2),
          static_cast<A>(1 - beta1),
          static_cast<A>(1 - beta2),
          static_cast<A>(factor),
          static_cast<A>(1 - lr * c.attributes->number("weight_decay")),
          static_cast<A>(lr / (1 - __builtin_pow(beta1, t))),
          static_cast<A>(1 / __builtin_sqrt(1 - __builtin_pow(beta2, t))),
          static_cast<A>(c.attributes->number("eps"))};
}

template <class A>
SERVAL_INLINE void adamw_update(const AdamWFactors<A>& f, A gradient, A& p, A& m, A& v) {
  const A g = gradient * f.gradient;
  m = f.beta1 * m + f.one_minus_beta1 * g;
  v = f.beta2 * v + f.one_minus_beta2 * g * g;
  p = p * f.keep - f.step_size * m / (square_root(v) * f.inverse_root + f.eps);
}

// Small tensors share one parallel region: the parts of all tensors are numbered one after another. Calls
// each(tensor, its first part, end, number of its part 0) for the parts that lie in [begin, end).
template <class PartsOf, class F>
SERVAL_INLINE void for_parts(int tensors, int64_t begin, int64_t end, PartsOf parts_of, F each) {
  int64_t first = 0;
  for (int i = 0; i < tensors && first < end; ++i) {
    const int64_t next = first + parts_of(i), from = begin > first ? begin : first,
                  to = end < next ? end : next;
    if (from < to) each(i, from - first, to - first, first);
    first = next;
  }
}

// Where an element of a tensor lies whose rows may be apart.
SERVAL_INLINE int64_t element_place(const Operand& o, int64_t element) {
  return o.row_stride == o.row_size ? element : element / o.row_size * o.row_stride + element % o.row_size;
}

template <class A, class T>
SERVAL_INLINE void read_run(const Operand& o, int64_t first, int64_t size, A* values) {
  const T* from = o.as<T>();
  if (o.row_stride == o.row_size)
    for (int64_t i = 0; i < size; ++i) values[i] = static_cast<A>(load(from[first + i]));
  else
    for (int64_t i = 0; i < size; ++i) values[i] = static_cast<A>(load(from[element_place(o, first + i)]));
}
template <class A, class T>
SERVAL_INLINE void write_run(const Operand& o, int64_t first, int64_t size, const A* values) {
  T* to = o.as<T>();
  if (o.row_stride == o.row_size)
    for (int64_t i = 0; i < size; ++i) to[first + i] = store<T>(values[i]);
  else
    for (int64_t i = 0; i < size; ++i) to[element_place(o, first + i)] = store<T>(values[i]);
}
// `words`: of the elements, or nullptr; they round bf16 stochastically.
template <class A, class T, class Half>
SERVAL_INLINE void write_run(const Operand& o, int64_t first, int64_t size, const A* values,
                             const uint32_t* words, Half half) {
  if (sizeof(T) != sizeof(BFloat16) || words == nullptr) return write_run<A, T>(o, first, size, values);
  BFloat16* to = o.as<BFloat16>();
  for (int64_t i = 0; i < size; ++i)
    to[element_place(o, first + i)].bits =
        bf16_bits_stochastic(static_cast<float>(values[i]), half(words[i]));
}

// The random words of a run of a tensor; nullptr where nothing is random. inputs(2): i64[3] seed, step,
// micro-step; attribute `streams`: of each tensor.
SERVAL_INLINE const uint32_t* adamw_words(const KernelContext& c, int64_t stream, int64_t first,
                                          uint32_t words[kAdamWRun]) {
  const int64_t* random = c.input(2).as<int64_t>();
  if (random == nullptr) return nullptr;
  const PhiloxKey key = philox_key(static_cast<uint64_t>(random[0]), static_cast<uint64_t>(stream),
                                   static_cast<uint32_t>(random[1]), static_cast<uint32_t>(random[2]));
  for (int64_t i = 0; i < kAdamWRun; i += 4 * kPhiloxBlocks)
    philox_words(key, static_cast<uint64_t>(first + i) / 4, words + i);
  return words;
}
SERVAL_INLINE int64_t adamw_stream(const KernelContext& c, int tensor) {
  return c.input(2) ? c.attributes->integers("streams")[static_cast<size_t>(tensor)] : 0;
}

}  // namespace serval
