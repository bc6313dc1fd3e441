#include "ops/attention/attention_plain.h"
#ifndef SERVAL_ISA_generic
#include "ops/attention/attention_tiled_backward.h"
#endif

namespace serval::SERVAL_ISA {

#ifdef SERVAL_ISA_generic

void attention_forward(const KernelContext& c) {
  plain_forward(c);
}
void attention_backward(const KernelContext& c) {
  plain_backward(c);
}
void attention_cached(const KernelContext& c) {
  append_to_cache(c);
  plain_cached(c);
}

#else
namespace {

// Calls f(element, word of the tiles) for the types that have tiled kernels.
template <class F>
SERVAL_INLINE void with_tiles(DType dtype, F f) {
#ifdef SERVAL_ISA_avx512_bf16
  if (dtype == DType::bf16) return f(BFloat16{}, int32_t{});
#else
  if (dtype == DType::bf16) return f(BFloat16{}, float{});
#endif
  f(float{}, float{});
}

}  // namespace

void attention_forward(const KernelContext& c) {
  if (c.input(0).dtype == DType::f64) return plain_forward(c);
  const int32_t* const cu = c.input(3).as<int32_t>();
  const auto document_of = [cu](int64_t i) { return Document{cu[i], cu[i + 1] - cu[i], cu[i], 0}; };
  with_tiles(c.input(0).dtype, [&](auto element, auto word) {
    tiled_forward<decltype(element), decltype(word)>(heads_of(c), c.input(0), c.input(1), c.input(2),
                                                     c.output(0), c.output(1), c.input(3).rows - 1,
                                                     document_of);
  });
}

void attention_backward(const KernelContext& c) {
  if (c.input(1).dtype == DType::f64) return plain_backward(c);
  with_tiles(c.input(1).dtype, [&](auto element, auto word) {
    tiled_backward<decltype(element), decltype(word)>(c, heads_of(c));
  });
}

void attention_cached(const KernelContext& c) {
  append_to_cache(c);
  // With a token or two of each sequence, packing the keys would cost more than it saves.
  const bool few = c.input(0).rows <= 2 * (c.input(3).rows - 1);
  if (few || c.input(0).dtype == DType::f64) return plain_cached(c);
  const int32_t *const cu = c.input(3).as<int32_t>(), *const past = c.input(4).as<int32_t>();
  const int64_t capacity = c.attributes->integer("capacity");
  const auto document_of = [=](int64_t i) {
    return Document{cu[i], cu[i + 1] - cu[i], i * capacity, past[i]};
  };
  with_tiles(c.input(0).dtype, [&](auto element, auto word) {
    tiled_forward<decltype(element), decltype(word)>(heads_of(c), c.input(0), c.update(0), c.update(1),
                                                     c.output(0), kAbsentOperand, c.input(3).rows - 1,
                                                     document_of);
  });
}

#endif

}  // namespace serval::SERVAL_ISA
