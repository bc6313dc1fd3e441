// The backward pass of tiled attention; the tiles and the order of sums are those of attention_tiled.h.
#pragma once
#include "ops/attention/attention_tiled.h"

namespace serval::SERVAL_ISA {
namespace {

// The gradient. With P = exp(scale Q K^T - lse) and D = rowsum(dO o):
//   dV = P^T dO, dS = scale P (dO V^T - D), dQ = dS K, dK = dS^T Q.
template <class Tiles>
struct Backward {
  using T = typename Tiles::Element;
  const Tiling& t;
  const Operand &d_o, &q, &k, &v, &lse, &dq, &dk, &dv;
  float* delta;   // [tokens, query heads]: D
  float* dq_sum;  // dQ, block after block, a row for each stacked row
  int64_t capacity;

  // The operands of one tile, in a thread's scratch.
  struct Buffers {
    float *keys_across, *values_across, *key_rows;
    float *queries, *grads;
    float *p, *ds;  // Q K^T and dO V^T, then P and dS
    float *dk, *dv;
  };

  SERVAL_INLINE Buffers make(Cutter scratch, bool with_sums) const {
    const int64_t key_floats = t.keys * t.dim, query_floats = t.rows * t.dim, tile = t.rows * t.keys;
    Buffers x;
    x.keys_across = scratch.take<float>(key_floats), x.values_across = scratch.take<float>(key_floats);
    x.key_rows = scratch.take<float>(key_floats);
    x.queries = scratch.take<float>(query_floats), x.grads = scratch.take<float>(query_floats);
    x.p = scratch.take<float>(tile), x.ds = scratch.take<float>(tile);
    x.dk = scratch.take<float>(with_sums ? key_floats : 0);
    x.dv = scratch.take<float>(with_sums ? key_floats : 0);
    return x;
  }

  // The first row of a block among all stacked rows.
  SERVAL_INLINE int64_t stacked_row(const Document& d, const QueryBlock& b) const {
    return b.head * capacity + (d.begin + b.first) * b.heads;
  }

  SERVAL_INLINE void load_keys(Tiles& tiles, const Document& d, int64_t tile, int64_t kv, Buffers& x) const {
    const int64_t begin = tile * t.keys, left = d.tokens - begin, count = left < t.keys ? left : t.keys;
    const T* const key = k.row<T>(d.key_begin + begin) + kv * t.h.dim;
    const T* const value = v.row<T>(d.key_begin + begin) + kv * t.h.dim;
    tiles.pack_across(value, v.row_stride, count, t.h.dim, t.across(), x.key_rows, x.values_across);
    tiles.pack_across(key, k.row_stride, count, t.h.dim, t.across(), x.key_rows, x.keys_across);
    tiles.pack_reduce(key, k.row_stride, count, t.h.dim, t.reduced(), x.key_rows);
  }
  SERVAL_INLINE void load_queries(const Document& d, const QueryBlock& b, Buffers& x) const {
    copy_queries<T>(q, t, d, b, x.queries);
    copy_queries<T>(d_o, t, d, b, x.grads);
  }

  // `row_delta`: times the scale.
  template <bool kMasked>
  static void weigh_row(const Buffers& x, int64_t row, int64_t columns, Seen seen, float scale, float row_lse,
                        float row_delta) {
    for (int64_t i = row; i < row + columns; i += kLanes) {
      Vec p = exponential_vec(load_vec(x.p + i) * scale - row_lse);
      if (kMasked) p = columns_between(i - row, seen.low, seen.high) ? p : Vec{};
      const Vec ds = p * (load_vec(x.ds + i) * scale - row_delta);
      store_vec(x.p + i, p);
      store_vec(x.ds + i, kMasked ? (columns_between(i - row, seen.low, seen.high) ? ds : Vec{}) : ds);
    }
  }

  // p and ds of a tile; returns the key columns that count, rounded up.
  int64_t scores(Tiles& tiles, const Document& d, const QueryBlock& b, int64_t tile, const Buffers& x) const {
    const int64_t begin = tile * t.keys, left = b.position + b.count - begin, rows = b.rows();
    const int64_t count = left < t.keys ? left : t.keys,
                  columns = (count + Tiles::kUnit - 1) / Tiles::kUnit * Tiles::kUnit;
    const float scale = static_cast<float>(t.h.scale);
    tiles.product(rows, columns, t.h.dim, {x.queries, t.dim, 1}, x.keys_across, t.across(), x.p, t.keys,
                  false);
    tiles.product(rows, columns, t.h.dim, {x.grads, t.dim, 1}, x.values_across, t.across(), x.ds, t.keys,
                  false);
    for (int64_t i = 0; i < b.count; ++i) {
      const int64_t token = d.begin + b.first + i;
      const Seen seen = seen_columns(b.position + i, begin, count, t.h.window);
      const bool whole = seen.low == 0 && seen.high >= columns;
      for (int64_t g = 0; g < b.heads; ++g) {
        const int64_t head = b.head + g, row = (g * b.count + i) * t.keys;
        const float row_lse = lse.row<float>(token)[head], row_delta = delta[token * t.h.q + head] * scale;
        (whole ? weigh_row<false> : weigh_row<true>)(x, row, columns, seen, scale, row_lse, row_delta);
      }
    }
    return columns;
  }

  SERVAL_INLINE float* dq_rows(const Document& d, const QueryBlock& b) const {
    return dq_sum + stacked_row(d, b) * t.dim;
  }
  SERVAL_INLINE void add_dq(Tiles& tiles, const Document& d, const QueryBlock& b, int64_t tile,
                            int64_t columns, const Buffers& x) const {
    tiles.product(b.rows(), t.dim, columns, {x.ds, t.keys, 1}, x.key_rows, t.reduced(), dq_rows(d, b), t.dim,
                  tile != t.first_tile(b.position));
  }
  SERVAL_INLINE void store_dq(const Document& d, const QueryBlock& b) const {
    const float* rows = dq_rows(d, b);
    for (int64_t r = 0; r < b.rows(); ++r)
      store_row(rows + r * t.dim, t.h.dim, 1,
                dq.row<T>(d.begin + b.first + r % b.count) + (b.head + r / b.count) * t.h.dim);
  }

  // dK and dV of one key tile; adds to dQ on the way if asked to.
  void key_tile(Tiles& tiles, const Document& d, int64_t tile, int64_t kv, bool with_dq,
                Cutter scratch) const {
    Buffers x = make(scratch, true);
    load_keys(tiles, d, tile, kv, x);
    for (int64_t i = 0; i < t.keys * t.dim; ++i) x.dk[i] = x.dv[i] = 0;
    const int64_t begin = tile * t.keys, left = d.tokens - begin, count = left < t.keys ? left : t.keys;
    int64_t last = d.tokens - 1;
    if (t.h.window > 0 && begin + count - 1 + t.h.window - 1 < last)
      last = begin + count - 1 + t.h.window - 1;
    for (int64_t part = 0; part < t.parts; ++part) {
      for (int64_t block = begin / t.queries; block <= last / t.queries; ++block) {
        const QueryBlock b = query_block(t, d, block, kv, part);
        load_queries(d, b, x);
        const int64_t columns = scores(tiles, d, b, tile, x), rows = b.rows();
        if (dv)
          tiles.product(columns, t.dim, rows, {x.p, 1, t.keys}, x.grads, t.queries_reduced(), x.dv, t.dim,
                        true);
        if (dk)
          tiles.product(columns, t.dim, rows, {x.ds, 1, t.keys}, x.queries, t.queries_reduced(), x.dk, t.dim,
                        true);
        if (with_dq) add_dq(tiles, d, b, tile, columns, x);
      }
    }
    for (int64_t s = 0; s < count; ++s) {
      const int64_t row = d.key_begin + begin + s, column = kv * t.h.dim;
      if (dk) store_row(x.dk + s * t.dim, t.h.dim, 1, dk.row<T>(row) + column);
      if (dv) store_row(x.dv + s * t.dim, t.h.dim, 1, dv.row<T>(row) + column);
    }
  }

  // dQ of one block of queries.
  void query_tile(Tiles& tiles, const Document& d, const QueryBlock& b, int64_t kv, Cutter scratch) const {
    Buffers x = make(scratch, false);
    load_queries(d, b, x);
    for (int64_t tile = t.first_tile(b.position); tile < t.tiles(b.position + b.count); ++tile) {
      load_keys(tiles, d, tile, kv, x);
      add_dq(tiles, d, b, tile, scores(tiles, d, b, tile, x), x);
    }
    store_dq(d, b);
  }

  // All gradients of one key head and document in five products a tile.
  void whole_head(Tiles& tiles, const Document& d, int64_t kv, Cutter scratch) const {
    for (int64_t tile = 0; tile < t.tiles(d.tokens); ++tile) key_tile(tiles, d, tile, kv, true, scratch);
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

template <class Tiles>
void tiled_backward(const KernelContext& c, const Heads& h) {
  const Operand &d_o = c.input(0), &q = c.input(1), &k = c.input(2), &v = c.input(3), &o = c.input(4),
                &lse = c.input(5), &cu = c.input(6), &dq = c.output(0), &dk = c.output(1), &dv = c.output(2);
  const int64_t documents = cu.rows - 1;
  const TileSize size = Tiles::backward_size(h.dim);
  using T = typename Tiles::Element;
  const Tiling t(h, size.rows, size.keys, Tiles::kUnit);
  const auto document_of = packed_documents(cu.as<int32_t>());
  if (documents < 1) return;
  const int64_t tokens = cu.as<int32_t>()[documents];
  float* const delta = static_cast<float*>(c.workspace);
  float* const dq_sum = delta + (tokens * h.q + 15) / 16 * 16;
  parallel_for(0, tokens, 16, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; ++row)
      for (int64_t head = 0; head < h.q; ++head)
        delta[row * h.q + head] = dot<T>(d_o.row<T>(row) + head * h.dim, o.row<T>(row) + head * h.dim, h.dim);
  });
  const Backward<Tiles> backward{t, d_o, q, k, v, lse, dq, dk, dv, delta, dq_sum, tokens};
  if (dq && (dk || dv) && enough_heads(h, documents, document_of)) {
    for_items<Tiles>(
        documents, document_of, [&](const Document& d) { return d.tokens > 0 ? h.kv : 0; },
        [&](const Document& d, int64_t kv, Tiles& tiles, Cutter scratch) {
          backward.whole_head(tiles, d, kv, scratch);
        });
    return;
  }
  if (dk || dv)
    for_items<Tiles>(
        documents, document_of, [&](const Document& d) { return t.tiles(d.tokens) * h.kv; },
        [&](const Document& d, int64_t item, Tiles& tiles, Cutter scratch) {
          backward.key_tile(tiles, d, item / h.kv, item % h.kv, false, scratch);
        });
  if (dq)
    for_items<Tiles>(
        documents, document_of, [&](const Document& d) { return t.blocks(d.tokens) * t.parts * h.kv; },
        [&](const Document& d, int64_t item, Tiles& tiles, Cutter scratch) {
          const int64_t kv = item % h.kv, part = item / h.kv % t.parts;
          const int64_t block = t.blocks(d.tokens) - 1 - item / h.kv / t.parts;
          backward.query_tile(tiles, d, query_block(t, d, block, kv, part), kv, scratch);
        });
}

}  // namespace
}  // namespace serval::SERVAL_ISA
