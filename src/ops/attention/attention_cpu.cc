#include "ops/attention/attention_plain.h"
#ifndef SERVAL_ISA_generic
#include "ops/attention/attention_tiled_backward.h"
#endif
#ifdef __AVX512BF16__
#include "ops/attention/attention_bf16_parts.h"
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

// Calls f(tag of the tiles) for the types that have tiles of floats.
template <class F>
SERVAL_INLINE void with_tiles(DType dtype, F f) {
  if (dtype == DType::f32) return f(TilesTag<FloatTiles<float> >{});
#ifndef __AVX512BF16__
  f(TilesTag<FloatTiles<BFloat16> >{});
#endif
}

#ifdef __AVX512BF16__
// Calls f(tag of the products) that this processor has.
template <class F>
SERVAL_INLINE void with_products(F f) {
#ifdef SERVAL_ISA_amx
  if (amx_is_emulated()) return f(TilesTag<PanelProducts<TileUnitOf<EmulatedTiles> > >{});
  f(TilesTag<PanelProducts<TileUnitOf<TileInstructions> > >{});
#else
  f(TilesTag<PanelProducts<TileUnit> >{});
#endif
}
#endif

template <class DocumentOf>
void forward(const KernelContext& c, const Operand& k, const Operand& v, const Operand& lse,
             DocumentOf document_of) {
  const Operand& q = c.input(0);
  const int64_t documents = c.input(3).rows - 1;
#ifdef __AVX512BF16__
  if (q.dtype == DType::bf16)
    return with_products([&](auto tag) {
      bf16_forward<typename decltype(tag)::type>(heads_of(c), q, k, v, c.output(0), lse, documents,
                                                 document_of);
    });
#endif
  with_tiles(q.dtype, [&](auto tag) {
    tiled_forward<typename decltype(tag)::type>(heads_of(c), q, k, v, c.output(0), lse, documents,
                                                document_of);
  });
}

}  // namespace

void attention_forward(const KernelContext& c) {
  if (c.input(0).dtype == DType::f64) return plain_forward(c);
  forward(c, c.input(1), c.input(2), c.output(1), packed_documents(c.input(3).as<int32_t>()));
}

void attention_backward(const KernelContext& c) {
  if (c.input(1).dtype == DType::f64) return plain_backward(c);
#ifdef __AVX512BF16__
  if (c.input(1).dtype == DType::bf16) {
    const int32_t* const cu = c.input(6).as<int32_t>();
    const int64_t documents = c.input(6).rows - 1;
    const auto document_of = packed_documents(cu);
    const Heads h = heads_of(c);
    const BackwardOperands operands{h,
                                    c.input(0),
                                    c.input(1),
                                    c.input(2),
                                    c.input(3),
                                    c.input(4),
                                    c.input(5),
                                    c.output(0),
                                    c.output(1),
                                    c.output(2),
                                    static_cast<float*>(c.workspace),
                                    documents > 0 ? cu[documents] : 0};
    return with_products([&](auto tag) {
      bf16_backward<typename decltype(tag)::type>(operands, documents,
                                                  enough_heads(h, documents, document_of), document_of);
    });
  }
#endif
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
  forward(c, c.update(0), c.update(1), kAbsentOperand, document_of);
}

#endif

}  // namespace serval::SERVAL_ISA
