// Both passes of bf16 attention, cut among the threads. What a part computes does not depend on where parts
// begin and end.
#pragma once
#include "ops/attention/attention_bf16_backward.h"
#include "ops/attention/attention_bf16_forward.h"
#include "ops/attention/attention_tiled.h"

namespace serval::SERVAL_ISA {
namespace {

// Items that the threads draw in ascending order: each(worker, item), with a worker of each thread's own.
template <class Worker, class F>
void draw_items(int64_t threads, int64_t items, const Worker& prototype, F each) {
  int64_t next = 0;
  parallel_for(0, smaller(threads, items), 1, [&](int64_t, int64_t) {
    Worker worker(prototype);
    for (int64_t item; (item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < items;) each(worker, item);
  });
}

// Cuts the panels of all key heads of all documents into parts of about the same cost:
//   each(worker, panels of a document, kv, first panel, end)
template <class Worker, class DocumentOf, class F>
void for_panels(const Heads& h, int64_t documents, DocumentOf document_of, const Worker& prototype, F each) {
  int64_t total = 0;
  for (int64_t i = 0; i < documents; ++i) {
    const Document d = document_of(i);
    total += Panels(h, d).cost() * h.kv;
  }
  constexpr int64_t kWorthAThread = 32, kWorthAPart = 512;
  const int64_t threads = smaller(num_threads(), (total + kWorthAThread - 1) / kWorthAThread);
  int64_t parts = threads;
  if (threads > 1 && total / kWorthAPart > threads) parts = smaller(total / kWorthAPart, 4 * threads);
  draw_items(threads, parts, prototype, [&](Worker& worker, int64_t part) {
    const int64_t low = total * part / parts, high = total * (part + 1) / parts;
    int64_t at = 0;
    for (int64_t i = 0; i < documents && at < high; ++i) {
      const Document d = document_of(i);
      const Panels panels(h, d);
      const int64_t cost = panels.cost();
      if (at + cost * h.kv <= low) {
        at += cost * h.kv;
        continue;
      }
      for (int64_t kv = 0; kv < h.kv && at < high; ++kv) {
        if (at + cost <= low) {
          at += cost;
          continue;
        }
        int64_t begin = panels.size, end = 0;  // the panels whose cost begins in the part
        for (int64_t index = 0; index < panels.size; at += panels.cost(index++))
          if (at >= low && at < high) begin = smaller(begin, index), end = index + 1;
        if (begin < end) each(worker, panels, kv, begin, end);
      }
    }
  });
}

template <class Products, class DocumentOf>
void bf16_forward(const Heads& h, const Operand& q, const Operand& k, const Operand& v, const Operand& o,
                  const Operand& lse, int64_t documents, DocumentOf document_of) {
  int64_t longest = 0;
  for (int64_t i = 0; i < documents; ++i) {
    const Document d = document_of(i);
    if (d.past + d.tokens > longest) longest = d.past + d.tokens;
  }
  for_panels(h, documents, document_of, Bf16Forward<Products>(h, q, k, v, o, lse, longest),
             [](auto& forward, const Panels& panels, int64_t kv, int64_t begin, int64_t end) {
               forward.run(panels, kv, begin, end);
             });
}

// Whole heads if they keep all threads busy, in five products a block; else keys and queries apart, in seven.
template <class Products, class DocumentOf>
void bf16_backward(const BackwardOperands& x, int64_t documents, bool whole_heads, DocumentOf document_of) {
  const Heads& h = x.h;
  int64_t longest = 0;
  for (int64_t i = 0; i < documents; ++i)
    if (document_of(i).tokens > longest) longest = document_of(i).tokens;
  if (longest == 0) return;
  const Bf16Backward<Products> prototype(x, longest);
  const bool with_keys = x.dk || x.dv;
  if (x.dq && !(with_keys && whole_heads))
    for_panels(h, documents, document_of, prototype,
               [](auto& worker, const Panels& panels, int64_t kv, int64_t begin, int64_t end) {
                 worker.run(panels, kv, begin, end, 0, panels.d.tokens, false, true);
               });
  if (!with_keys) return;
  // Whole heads, or pieces of their keys.
  const int64_t piece = longest * h.kv / (4 * num_threads()),
                keys = whole_heads ? longest : round_up(piece > 128 ? piece : 128, kPanel);
  const auto pieces_of = [&](const Document& d) { return (d.tokens + keys - 1) / keys * h.kv; };
  int64_t items = 0;
  for (int64_t i = 0; i < documents; ++i) items += pieces_of(document_of(i));
  using Pieces = Walk<DocumentOf, decltype(pieces_of)>;
  struct Worker {
    Bf16Backward<Products> backward;
    Pieces pieces;
  };
  const Worker worker{prototype, Pieces{0, 0, document_of, pieces_of}};
  draw_items(num_threads(), items, worker, [&](Worker& w, int64_t item) {
    const int64_t inside = w.pieces.seek(item), begin = inside / h.kv * keys;
    const Document d = document_of(w.pieces.index);
    const Panels panels(h, d);
    w.backward.run(panels, inside % h.kv, 0, panels.size, begin, smaller(begin + keys, d.tokens), true,
                   whole_heads && x.dq);
  });
}

}  // namespace
}  // namespace serval::SERVAL_ISA
