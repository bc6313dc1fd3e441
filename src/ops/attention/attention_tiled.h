// Tiled attention of floats ("FlashAttention-2"): tiles of stacked query rows (those of the heads that share
// a key head) against tiles of keys. Every sum runs over key tiles or query blocks in ascending order
// whatever the threads do, so results do not depend on them.
#pragma once
#include "ops/attention/attention_plain.h"
#include "ops/attention/attention_tiles.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int64_t kScratchBytes = 512 * 1024;  // of one thread, on its stack

// How heads and tokens are cut into tiles; fixed by the shapes alone.
struct Tiling {
  Heads h;
  int64_t dim;      // head_dim rounded up
  int64_t keys;     // of a key tile
  int64_t heads;    // query heads stacked in a tile
  int64_t parts;    // tiles that cover the group of a key head
  int64_t queries;  // tokens of a query block
  int64_t rows;     // of a query block, rounded up
  SERVAL_INLINE Tiling(const Heads& of, int64_t most_rows, int64_t tile_keys, int64_t unit) : h(of) {
    dim = (h.dim + unit - 1) / unit * unit;
    keys = tile_keys;
    heads = h.group < 8 ? h.group : 8;
    parts = (h.group + heads - 1) / heads;
    queries = most_rows / heads;
    rows = (queries * heads + unit - 1) / unit * unit;
  }
  SERVAL_INLINE PackedSize across() const { return {dim, keys}; }   // keys as columns
  SERVAL_INLINE PackedSize reduced() const { return {keys, dim}; }  // keys are summed over
  SERVAL_INLINE PackedSize queries_reduced() const { return {rows, dim}; }
  SERVAL_INLINE int64_t blocks(int64_t tokens) const { return (tokens + queries - 1) / queries; }
  SERVAL_INLINE int64_t tiles(int64_t tokens) const { return (tokens + keys - 1) / keys; }
  SERVAL_INLINE int64_t first_tile(int64_t position) const { return first_key(position, 0, h.window) / keys; }
};

// Stacked query rows: tokens [first, first + count) of a document for heads [head, head + heads); row =
// head * count + token.
struct QueryBlock {
  int64_t first, count, head, heads, position;  // position of the first token among the keys
  SERVAL_INLINE int64_t rows() const { return heads * count; }
};

template <class T>
void copy_queries(const Operand& source, const Tiling& t, const Document& d, const QueryBlock& b,
                  float* target) {
  for (int64_t g = 0; g < b.heads; ++g)
    for (int64_t i = 0; i < b.count; ++i)
      copy_row(source.row<T>(d.begin + b.first + i) + (b.head + g) * t.h.dim, t.h.dim, t.dim,
               target + (g * b.count + i) * t.dim);
}

// All ones in the lanes of columns [low, high).
SERVAL_INLINE IntVec columns_between(int64_t column, int64_t low, int64_t high) {
  const IntVec index = lane_index() + static_cast<int32_t>(column);
  return (index >= static_cast<int32_t>(low)) & (index < static_cast<int32_t>(high));
}

// The columns of a key tile that a query at `position` sees.
struct Seen {
  int64_t low, high;
};
SERVAL_INLINE Seen seen_columns(int64_t position, int64_t tile_begin, int64_t tile_keys, int64_t window) {
  const int64_t low =
      window > 0 && position - window + 1 > tile_begin ? position - window + 1 - tile_begin : 0;
  const int64_t high = position + 1 - tile_begin;
  return {low, high < tile_keys ? high : tile_keys};
}

// What the rows of a query block have seen so far.
struct SoftRow {
  float most = -3e38f;
  float total[kLanes] = {};  // lane by lane: the sum of exp(score - most)
};

// Turns the scores of one row into exp(score - most); most and total move on. Returns
// what the sums of earlier tiles must be multiplied with.
template <bool kMasked>
SERVAL_INLINE float soft_row(float* row, int64_t columns, Seen seen, float scale, SoftRow& soft) {
  Vec top = splat(-3e38f);
  for (int64_t i = 0; i < columns; i += kLanes) {
    Vec x = load_vec(row + i) * scale;
    if (kMasked) x = columns_between(i, seen.low, seen.high) ? x : splat(-3e38f);
    top = x > top ? x : top;
  }
  const float here = max_of(top), before = soft.most, most = here > before ? here : before;
  const float shrink = most > before ? exponential(before - most) : 1.0f;
  Vec total = load_vec(soft.total) * shrink;
  for (int64_t i = 0; i < columns; i += kLanes) {
    Vec p = exponential_vec(load_vec(row + i) * scale - most);
    if (kMasked) p = columns_between(i, seen.low, seen.high) ? p : Vec{};
    total += p;
    store_vec(row + i, p);
  }
  soft.most = most;
  store_vec(soft.total, total);
  return shrink;
}

SERVAL_INLINE float soften(float* row, int64_t columns, Seen seen, float scale, SoftRow& soft) {
  if (seen.low == 0 && seen.high >= columns) return soft_row<false>(row, columns, seen, scale, soft);
  if (seen.low < seen.high) return soft_row<true>(row, columns, seen, scale, soft);
  for (int64_t i = 0; i < columns; i += kLanes) store_vec(row + i, Vec{});
  return 1;
}

// One block of queries of one key head.
template <class Tiles>
void forward_block(Tiles& tiles, const Tiling& t, const Operand& q, const Operand& k, const Operand& v,
                   const Operand& o, const Operand& lse, const Document& d, const QueryBlock& b, int64_t kv,
                   Cutter scratch) {
  using T = typename Tiles::Element;
  const int64_t rows = b.rows();
  float* const queries = scratch.take<float>(t.rows * t.dim);
  float* const spare = scratch.take<float>(t.keys * t.dim);
  float* const packed = scratch.take<float>(t.keys * t.dim);  // keys, then values
  float* const scores = scratch.take<float>(t.rows * t.keys);
  float* const sums = scratch.take<float>(t.rows * t.dim);
  SoftRow* const soft = scratch.take<SoftRow>(rows);
  const float scale = static_cast<float>(t.h.scale);
  copy_queries<T>(q, t, d, b, queries);
  for (int64_t i = 0; i < rows * t.dim; ++i) sums[i] = 0;
  for (int64_t r = 0; r < rows; ++r) soft[r] = SoftRow{};

  const int64_t last_key = b.position + b.count;  // exclusive
  for (int64_t tile = t.first_tile(b.position); tile < t.tiles(last_key); ++tile) {
    const int64_t begin = tile * t.keys, left = last_key - begin, count = left < t.keys ? left : t.keys;
    const int64_t columns = (count + Tiles::kUnit - 1) / Tiles::kUnit * Tiles::kUnit;
    const int64_t key = d.key_begin + begin, head = kv * t.h.dim;
    tiles.pack_across(k.row<T>(key) + head, k.row_stride, count, t.h.dim, t.across(), spare, packed);
    tiles.product(rows, columns, t.h.dim, {queries, t.dim, 1}, packed, t.across(), scores, t.keys, false);
    for (int64_t i = 0; i < b.count; ++i) {
      const Seen seen = seen_columns(b.position + i, begin, count, t.h.window);
      for (int64_t r = i; r < rows; r += b.count) {
        const float shrink = soften(scores + r * t.keys, columns, seen, scale, soft[r]);
        if (shrink == 1) continue;
        for (int64_t c = 0; c < t.dim; c += kLanes)
          store_vec(sums + r * t.dim + c, load_vec(sums + r * t.dim + c) * shrink);
      }
    }
    tiles.pack_reduce(v.row<T>(key) + head, v.row_stride, count, t.h.dim, t.reduced(), packed);
    tiles.product(rows, t.dim, columns, {scores, t.keys, 1}, packed, t.reduced(), sums, t.dim, true);
  }
  for (int64_t g = 0; g < b.heads; ++g) {
    for (int64_t i = 0; i < b.count; ++i) {
      const int64_t r = g * b.count + i, token = d.begin + b.first + i;
      const float total = sum_of(load_vec(soft[r].total));
      store_row(sums + r * t.dim, t.h.dim, 1 / total, o.row<T>(token) + (b.head + g) * t.h.dim);
      if (lse)
        lse.row<float>(token)[b.head + g] =
            soft[r].most + static_cast<float>(__builtin_log(static_cast<double>(total)));
    }
  }
}

SERVAL_INLINE QueryBlock query_block(const Tiling& t, const Document& d, int64_t block, int64_t kv,
                                     int64_t part) {
  const int64_t first = block * t.queries, left = d.tokens - first, head = part * t.heads;
  const int64_t heads = t.h.group - head < t.heads ? t.h.group - head : t.heads;
  return {first, left < t.queries ? left : t.queries, kv * t.h.group + head, heads, d.past + first};
}

// Finds the document of an item; items are drawn in ascending order, so each thread only walks on.
template <class DocumentOf, class ItemsOf>
struct Walk {
  int64_t index = 0, first_item = 0;
  DocumentOf document_of;
  ItemsOf items_of;
  SERVAL_INLINE int64_t seek(int64_t item) {
    while (item - first_item >= items_of(document_of(index))) first_item += items_of(document_of(index++));
    return item - first_item;
  }
};

// each(document, its item, tiles, scratch) for all items of all documents.
template <class Tiles, class DocumentOf, class ItemsOf, class F>
void for_items(int64_t documents, DocumentOf document_of, ItemsOf items_of, F each) {
  int64_t items = 0, next = 0;
  for (int64_t i = 0; i < documents; ++i) items += items_of(document_of(i));
  const int64_t threads = num_threads();
  parallel_for(0, threads < items ? threads : items, 1, [&](int64_t, int64_t) {
    alignas(64) char memory[kScratchBytes];
    Tiles tiles;
    Walk<DocumentOf, ItemsOf> walk{0, 0, document_of, items_of};
    for (int64_t item; (item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < items;) {
      const int64_t inside = walk.seek(item);
      each(document_of(walk.index), inside, tiles, Cutter{memory});
    }
  });
}

template <class Tiles, class DocumentOf>
void tiled_forward(const Heads& h, const Operand& q, const Operand& k, const Operand& v, const Operand& o,
                   const Operand& lse, int64_t documents, DocumentOf document_of) {
  const TileSize size = Tiles::forward_size(h.dim);
  const Tiling t(h, size.rows, size.keys, Tiles::kUnit);
  for_items<Tiles>(
      documents, document_of, [&](const Document& d) { return t.blocks(d.tokens) * t.parts * h.kv; },
      [&](const Document& d, int64_t item, Tiles& tiles, Cutter scratch) {
        const int64_t kv = item % h.kv, part = item / h.kv % t.parts;
        const int64_t block = t.blocks(d.tokens) - 1 - item / h.kv / t.parts;  // the longest ones first
        forward_block(tiles, t, q, k, v, o, lse, d, query_block(t, d, block, kv, part), kv, scratch);
      });
}

}  // namespace
}  // namespace serval::SERVAL_ISA
