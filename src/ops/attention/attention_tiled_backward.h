// The backward pass of tiled attention; the tiles and the order of sums are those of attention_tiled.h.
#pragma once
#include "ops/attention/attention_tiled.h"

namespace serval::SERVAL_ISA {
namespace {

// The gradient. With P = exp(scale Q K^T - lse) and D = rowsum(dO o):
//   dV = P^T dO, dS = scale P (dO V^T - D), dQ = dS K, dK = dS^T Q.
template <class T, class Word>
struct Backward {
  const Tiling& t;
  const Operand &d_o, &q, &k, &v, &lse, &dq, &dk, &dv;
  float* delta;   // [tokens, query heads]: D
  float* dq_sum;  // one row of `dim` floats for each stacked query row
  int64_t capacity;

  // The operands of one tile, in a thread's scratch.
  struct Tiles {
    Word *keys, *keys_across, *values_across, *key_rows;
    Word *queries, *query_rows, *grads, *grad_rows;
    Word *rounded_ds, *rounded_column;
    float *p, *ds, *dk, *dv;
    const Word *key_reduce, *query_reduce, *grad_reduce;
  };

  SERVAL_INLINE Tiles make(Scratch scratch, bool with_sums) const {
    const bool pairs = per_word(Word{}) == 2;
    const int64_t key_words = t.keys * t.words, query_words = (t.queries * t.heads + 1) * t.words;
    const int64_t tile = (t.queries * t.heads + 1) * t.keys;
    Tiles x;
    x.keys = scratch.take<Word>(key_words);
    x.keys_across = scratch.take<Word>(key_words), x.values_across = scratch.take<Word>(key_words);
    x.queries = scratch.take<Word>(query_words), x.grads = scratch.take<Word>(query_words);
    x.p = scratch.take<float>(tile), x.ds = scratch.take<float>(tile);
    x.key_rows = scratch.take<Word>(pairs ? key_words : 0);
    x.query_rows = scratch.take<Word>(pairs ? query_words : 0);
    x.grad_rows = scratch.take<Word>(pairs ? query_words : 0);
    x.rounded_ds = scratch.take<Word>(pairs ? tile / 2 : 0);
    x.rounded_column = scratch.take<Word>(pairs ? tile / 2 : 0);
    x.dk = scratch.take<float>(with_sums ? t.keys * t.dim : 0);
    x.dv = scratch.take<float>(with_sums ? t.keys * t.dim : 0);
    x.key_reduce = x.query_reduce = x.grad_reduce = nullptr;
    return x;
  }

  SERVAL_INLINE void load_keys(const Document& d, int64_t tile, int64_t kv, Tiles& x) const {
    const int64_t begin = tile * t.keys, left = d.tokens - begin, count = left < t.keys ? left : t.keys;
    copy_keys<T>(v, t, d.key_begin + begin, count, kv, x.keys);
    transpose(x.keys, t.keys, t.words, t.words, x.values_across, t.keys);
    copy_keys<T>(k, t, d.key_begin + begin, count, kv, x.keys);
    transpose(x.keys, t.keys, t.words, t.words, x.keys_across, t.keys);
    x.key_reduce = reduce_rows(x.keys, t.keys, t.dim, x.key_rows);
  }
  SERVAL_INLINE void load_queries(const Document& d, const QueryBlock& b, bool reduce, Tiles& x) const {
    copy_queries<T>(q, t, d, b, x.queries);
    copy_queries<T>(d_o, t, d, b, x.grads);
    if (!reduce) return;
    const int64_t even = (b.rows() + 1) / 2 * 2;
    x.query_reduce = reduce_rows(x.queries, even, t.dim, x.query_rows);
    x.grad_reduce = reduce_rows(x.grads, even, t.dim, x.grad_rows);
  }

  // p and ds of a tile; returns the key columns that count, a multiple of 16.
  int64_t scores(const Document& d, const QueryBlock& b, int64_t tile, const Tiles& x) const {
    const int64_t begin = tile * t.keys, left = b.position + b.count - begin, rows = b.rows();
    const int64_t count = left < t.keys ? left : t.keys, columns = (count + 15) / 16 * 16;
    const float scale = static_cast<float>(t.h.scale);
    product<Word>(rows, columns, t.words, {x.queries, t.words, 1}, x.keys_across, t.keys, x.p, t.keys, false);
    product<Word>(rows, columns, t.words, {x.grads, t.words, 1}, x.values_across, t.keys, x.ds, t.keys,
                  false);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = d.begin + b.first + r % b.count, head = b.head + r / b.count;
      const Seen seen = seen_columns(b.position + r % b.count, begin, count, t.h.window);
      const float row_lse = lse.row<float>(token)[head], row_delta = delta[token * t.h.q + head];
      float *p = x.p + r * t.keys, *ds = x.ds + r * t.keys;
      for (int64_t i = 0; i < columns; i += kLanes) {
        const Vec e = exponential_vec(load_vec(p + i) * scale - row_lse);
        const IntVec visible = columns_between(i, seen.low, seen.high);
        store_vec(p + i, visible ? e : Vec{});
        store_vec(ds + i, visible ? e * (load_vec(ds + i) - row_delta) * scale : Vec{});
      }
    }
    for (int64_t i = 0; i < columns; ++i) x.p[rows * t.keys + i] = x.ds[rows * t.keys + i] = 0;
    return columns;
  }

  SERVAL_INLINE float* dq_rows(const Document& d, const QueryBlock& b) const {
    return dq_sum + (b.head * capacity + (d.begin + b.first) * b.heads) * t.dim;
  }
  SERVAL_INLINE void add_dq(const Document& d, const QueryBlock& b, int64_t tile, int64_t columns,
                            const Tiles& x) const {
    const Strided<Word> ds = by_row(x.ds, b.rows(), columns, t.keys, x.rounded_ds);
    product<Word>(b.rows(), t.dim, columns / per_word(Word{}), ds, x.key_reduce, t.dim, dq_rows(d, b), t.dim,
                  tile != t.first_tile(b.position));
  }
  SERVAL_INLINE void store_dq(const Document& d, const QueryBlock& b) const {
    const float* rows = dq_rows(d, b);
    for (int64_t r = 0; r < b.rows(); ++r)
      store_row(rows + r * t.dim, t.h.dim, 1,
                dq.row<T>(d.begin + b.first + r % b.count) + (b.head + r / b.count) * t.h.dim);
  }

  // dK and dV of one key tile; adds to dQ on the way if asked to.
  void key_tile(const Document& d, int64_t tile, int64_t kv, bool with_dq, Scratch scratch) const {
    Tiles x = make(scratch, true);
    load_keys(d, tile, kv, x);
    for (int64_t i = 0; i < t.keys * t.dim; ++i) x.dk[i] = x.dv[i] = 0;
    const int64_t begin = tile * t.keys, left = d.tokens - begin, count = left < t.keys ? left : t.keys;
    int64_t last = d.tokens - 1;
    if (t.h.window > 0 && begin + count - 1 + t.h.window - 1 < last)
      last = begin + count - 1 + t.h.window - 1;
    for (int64_t part = 0; part < t.parts; ++part) {
      for (int64_t block = begin / t.queries; block <= last / t.queries; ++block) {
        const QueryBlock b = query_block(t, d, block, kv, part);
        load_queries(d, b, true, x);
        const int64_t columns = scores(d, b, tile, x);
        const int64_t reduced = (b.rows() + per_word(Word{}) - 1) / per_word(Word{});
        if (dv)
          product<Word>(columns, t.dim, reduced, by_column(x.p, b.rows(), columns, t.keys, x.rounded_column),
                        x.grad_reduce, t.dim, x.dv, t.dim, true);
        if (dk)
          product<Word>(columns, t.dim, reduced, by_column(x.ds, b.rows(), columns, t.keys, x.rounded_column),
                        x.query_reduce, t.dim, x.dk, t.dim, true);
        if (with_dq) add_dq(d, b, tile, columns, x);
      }
    }
    for (int64_t s = 0; s < count; ++s) {
      const int64_t row = d.key_begin + begin + s, column = kv * t.h.dim;
      if (dk) store_row(x.dk + s * t.dim, t.h.dim, 1, dk.row<T>(row) + column);
      if (dv) store_row(x.dv + s * t.dim, t.h.dim, 1, dv.row<T>(row) + column);
    }
  }

  // dQ of one block of queries.
  void query_tile(const Document& d, const QueryBlock& b, int64_t kv, Scratch scratch) const {
    Tiles x = make(scratch, false);
    load_queries(d, b, false, x);
    for (int64_t tile = t.first_tile(b.position); tile < t.tiles(b.position + b.count); ++tile) {
      load_keys(d, tile, kv, x);
      add_dq(d, b, tile, scores(d, b, tile, x), x);
    }
    store_dq(d, b);
  }

  // All gradients of one key head and document in five products a tile.
  void whole_head(const Document& d, int64_t kv, Scratch scratch) const {
    for (int64_t tile = 0; tile < t.tiles(d.tokens); ++tile) key_tile(d, tile, kv, true, scratch);
    for (int64_t part = 0; part < t.parts; ++part)
      for (int64_t block = 0; block < t.blocks(d.tokens); ++block)
        store_dq(d, query_block(t, d, block, kv, part));
  }
};

// Whole heads (5 products a tile) keep all threads busy only if there are enough of them; else key tiles and
// query blocks are separate tasks (7 products). Both sum in the same order, so the choice may depend on
// threads.
template <class DocumentOf>
bool enough_heads(const Heads& h, int64_t documents, DocumentOf document_of) {
  const double threads = static_cast<double>(num_threads());
  double all = 0, most = 0;
  for (int64_t i = 0; i < documents; ++i) {
    const double tokens = static_cast<double>(document_of(i).tokens), work = tokens * tokens;
    all += work * static_cast<double>(h.kv);
    most = work > most ? work : most;
  }
  const int64_t rounds = (h.kv + num_threads() - 1) / num_threads();
  const double alone = documents == 1 ? most * static_cast<double>(rounds) : all / threads + most;
  return alone <= 1.4 * all / threads;
}

template <class T, class Word>
void tiled_backward(const KernelContext& c, const Heads& h) {
  const Operand &d_o = c.input(0), &q = c.input(1), &k = c.input(2), &v = c.input(3), &o = c.input(4),
                &lse = c.input(5), &cu = c.input(6), &dq = c.output(0), &dk = c.output(1), &dv = c.output(2);
  const int64_t tile = h.dim <= 128 ? 64 : 32, documents = cu.rows - 1;
  const Tiling t(h, tile, tile, per_word(Word{}));
  const auto document_of = [&](int64_t i) {
    const int64_t begin = cu.as<int32_t>()[i];
    return Document{begin, cu.as<int32_t>()[i + 1] - begin, begin, 0};
  };
  if (documents < 1) return;
  float* const delta = static_cast<float*>(c.workspace);
  const int64_t tokens = cu.as<int32_t>()[documents];
  float* const dq_sum = delta + (tokens * h.q + 15) / 16 * 16;
  parallel_for(0, tokens, 16, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; ++row)
      for (int64_t head = 0; head < h.q; ++head)
        delta[row * h.q + head] = dot<T>(d_o.row<T>(row) + head * h.dim, o.row<T>(row) + head * h.dim, h.dim);
  });
  const Backward<T, Word> backward{t, d_o, q, k, v, lse, dq, dk, dv, delta, dq_sum, tokens};
  if (dq && (dk || dv) && enough_heads(h, documents, document_of)) {
    for_items(
        documents, document_of, [&](const Document& d) { return d.tokens > 0 ? h.kv : 0; },
        [&](const Document& d, int64_t kv, Scratch scratch) { backward.whole_head(d, kv, scratch); });
    return;
  }
  if (dk || dv)
    for_items(
        documents, document_of, [&](const Document& d) { return t.tiles(d.tokens) * h.kv; },
        [&](const Document& d, int64_t item, Scratch scratch) {
          backward.key_tile(d, item / h.kv, item % h.kv, false, scratch);
        });
  if (dq)
    for_items(
        documents, document_of, [&](const Document& d) { return t.blocks(d.tokens) * t.parts * h.kv; },
        [&](const Document& d, int64_t item, Scratch scratch) {
          const int64_t kv = item % h.kv, part = item / h.kv % t.parts;
          const int64_t block = t.blocks(d.tokens) - 1 - item / h.kv / t.parts;
          backward.query_tile(d, query_block(t, d, block, kv, part), kv, scratch);
        });
}

}  // namespace
}  // namespace serval::SERVAL_ISA
