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

template <class T>
struct TilesTag {
  using type = T;
};

// Calls f(tag of the tiles) for the types that have tiled kernels.
template <class F>
SERVAL_INLINE void with_tiles(DType dtype, F f) {
  if (dtype == DType::f32) return f(TilesTag<FloatTiles<float> >{});
#if defined(SERVAL_ISA_amx)
  if (amx_is_emulated()) return f(TilesTag<Bf16Tiles<TileUnitOf<EmulatedTiles> > >{});
  f(TilesTag<Bf16Tiles<TileUnitOf<TileInstructions> > >{});
#elif defined(__AVX512BF16__)
  f(TilesTag<Bf16Tiles<TileUnit> >{});
#else
  f(TilesTag<FloatTiles<BFloat16> >{});
#endif
}

}  // namespace

void attention_forward(const KernelContext& c) {
  if (c.input(0).dtype == DType::f64) return plain_forward(c);
  const int32_t* const cu = c.input(3).as<int32_t>();
  const auto document_of = [cu](int64_t i) { return Document{cu[i], cu[i + 1] - cu[i], cu[i], 0}; };
  with_tiles(c.input(0).dtype, [&](auto tag) {
    tiled_forward<typename decltype(tag)::type>(heads_of(c), c.input(0), c.input(1), c.input(2), c.output(0),
                                                c.output(1), c.input(3).rows - 1, document_of);
  });
}

void attention_backward(const KernelContext& c) {
  if (c.input(1).dtype == DType::f64) return plain_backward(c);
  with_tiles(c.input(1).dtype,
             [&](auto tag) { tiled_backward<typename decltype(tag)::type>(c, heads_of(c)); });
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
  with_tiles(c.input(0).dtype, [&](auto tag) {
    tiled_forward<typename decltype(tag)::type>(heads_of(c), c.input(0), c.update(0), c.update(1),
                                                c.output(0), kAbsentOperand, c.input(3).rows - 1,
                                                document_of);
  });
}

#endif

}  // namespace serval::SERVAL_ISA
