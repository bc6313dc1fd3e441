// Tiled attention ("FlashAttention-2"): tiles of stacked query rows (those of the heads that share a key
// head) against tiles of keys. Every sum runs over key tiles or query blocks in ascending order whatever the
// threads do, so results do not depend on them.
#pragma once
#include "ops/attention/attention_plain.h"
#include "ops/attention/attention_tiles.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int64_t kScratchBytes = 264 * 1024;  // of one thread, on its stack

// Cuts aligned buffers from a thread's scratch.
struct Scratch {
  char* at;
  template <class Word>
  SERVAL_INLINE Word* take(int64_t count) {
    char* const start = at;
    at += (count * static_cast<int64_t>(sizeof(Word)) + 63) / 64 * 64;
    return reinterpret_cast<Word*>(start);
  }
};

// How heads and tokens are cut into tiles; fixed by the shapes alone.
struct Tiling {
  Heads h;
  int64_t dim;      // head_dim rounded up to 16
  int64_t keys;     // of a key tile
  int64_t heads;    // query heads stacked in a tile
  int64_t parts;    // tiles that cover the group of a key head
  int64_t queries;  // tokens of a query block
  int64_t words;    // of a row of `dim` elements
  SERVAL_INLINE Tiling(const Heads& of, int64_t rows, int64_t tile_keys, int64_t elements_per_word) : h(of) {
    dim = (h.dim + 15) / 16 * 16;
    keys = tile_keys;
    heads = h.group < 8 ? h.group : 8;
    parts = (h.group + heads - 1) / heads;
    queries = rows / heads;
    words = dim / elements_per_word;
  }
  SERVAL_INLINE int64_t blocks(int64_t tokens) const { return (tokens + queries - 1) / queries; }
  SERVAL_INLINE int64_t tiles(int64_t tokens) const { return (tokens + keys - 1) / keys; }
  SERVAL_INLINE int64_t first_tile(int64_t position) const { return first_key(position, 0, h.window) / keys; }
};

// A document, or a sequence of the cache: its new tokens are rows begin.. of q, at positions past.. of its
// keys, which start at row `key_begin`.
struct Document {
  int64_t begin, tokens, key_begin, past;
};

// Stacked query rows: tokens [first, first + count) of a document for heads [head, head + heads); row =
// head * count + token.
struct QueryBlock {
  int64_t first, count, head, heads, position;  // position of the first token among the keys
  SERVAL_INLINE int64_t rows() const { return heads * count; }
};

template <class T, class Word>
void copy_queries(const Operand& source, const Tiling& t, const Document& d, const QueryBlock& b,
                  Word* target) {
  for (int64_t g = 0; g < b.heads; ++g)
    for (int64_t i = 0; i < b.count; ++i)
      copy_row(source.row<T>(d.begin + b.first + i) + (b.head + g) * t.h.dim, t.h.dim, t.dim,
               target + (g * b.count + i) * t.words);
  // A row of zeros completes the last pair of rows.
  for (int64_t i = 0; i < t.words; ++i) target[b.rows() * t.words + i] = 0;
}

// Rows [begin, begin + count) of one key head; zeros up to a whole tile.
template <class T, class Word>
void copy_keys(const Operand& source, const Tiling& t, int64_t begin, int64_t count, int64_t head,
               Word* target) {
  for (int64_t s = 0; s < count; ++s)
    copy_row(source.row<T>(begin + s) + head * t.h.dim, t.h.dim, t.dim, target + s * t.words);
  for (int64_t i = count * t.words; i < t.keys * t.words; ++i) target[i] = 0;
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

// Scores of one row become exp(score - most); the row's sum and maximum move on. Returns what the sums of
// earlier tiles must be multiplied with.
SERVAL_INLINE float soft_row(float* row, int64_t columns, Seen seen, float scale, float& most, float& sum) {
  if (seen.low >= seen.high) {
    for (int64_t i = 0; i < columns; i += kLanes) store_vec(row + i, Vec{});
    return 1;
  }
  Vec top = splat(-3e38f);
  for (int64_t i = 0; i < columns; i += kLanes) {
    const Vec x = columns_between(i, seen.low, seen.high) ? load_vec(row + i) * scale : splat(-3e38f);
    top = x > top ? x : top;
    store_vec(row + i, x);
  }
  const float here = max_of(top), before = most;
  if (here > most) most = here;
  Vec total{};
  for (int64_t i = 0; i < columns; i += kLanes) {
    const IntVec visible = columns_between(i, seen.low, seen.high);
    const Vec p = visible ? exponential_vec(load_vec(row + i) - most) : Vec{};
    total += p;
    store_vec(row + i, p);
  }
  const float shrink = most > before ? exponential(before - most) : 1.0f;
  sum = sum * shrink + sum_of(total);
  return shrink;
}

// One block of queries of one key head.
template <class T, class Word>
void forward_block(const Tiling& t, const Operand& q, const Operand& k, const Operand& v, const Operand& o,
                   const Operand& lse, const Document& d, const QueryBlock& b, int64_t kv, Scratch scratch) {
  const int64_t rows = b.rows();
  Word* const queries = scratch.take<Word>((rows + 1) * t.words);
  Word* const keys = scratch.take<Word>(t.keys * t.words);  // then the values
  Word* const packed = scratch.take<Word>(t.keys * t.words);
  float* const scores = scratch.take<float>((rows + 1) * t.keys);
  Word* const rounded = scratch.take<Word>(per_word(Word{}) == 2 ? rows * t.keys / 2 : 0);
  float* const sums = scratch.take<float>(rows * t.dim);
  float *const most = scratch.take<float>(rows), *const total = scratch.take<float>(rows);
  const float scale = static_cast<float>(t.h.scale);
  copy_queries<T>(q, t, d, b, queries);
  for (int64_t i = 0; i < rows * t.dim; ++i) sums[i] = 0;
  for (int64_t r = 0; r < rows; ++r) most[r] = -3e38f, total[r] = 0;

  const int64_t last_key = b.position + b.count;  // exclusive
  for (int64_t tile = t.first_tile(b.position); tile < t.tiles(last_key); ++tile) {
    const int64_t begin = tile * t.keys, left = last_key - begin, count = left < t.keys ? left : t.keys;
    const int64_t columns = (count + 15) / 16 * 16;
    copy_keys<T>(k, t, d.key_begin + begin, count, kv, keys);
    transpose(keys, t.keys, t.words, t.words, packed, t.keys);
    product<Word>(rows, columns, t.words, {queries, t.words, 1}, packed, t.keys, scores, t.keys, false);
    for (int64_t r = 0; r < rows; ++r) {
      const Seen seen = seen_columns(b.position + r % b.count, begin, count, t.h.window);
      const float shrink = soft_row(scores + r * t.keys, columns, seen, scale, most[r], total[r]);
      if (shrink == 1) continue;
      for (int64_t i = 0; i < t.dim; ++i) sums[r * t.dim + i] *= shrink;
    }
    copy_keys<T>(v, t, d.key_begin + begin, count, kv, keys);
    const Word* const values = reduce_rows(keys, t.keys, t.dim, packed);
    const Strided<Word> p = by_row(scores, rows, columns, t.keys, rounded);
    product<Word>(rows, t.dim, columns / per_word(Word{}), p, values, t.dim, sums, t.dim, true);
  }
  for (int64_t g = 0; g < b.heads; ++g) {
    for (int64_t i = 0; i < b.count; ++i) {
      const int64_t r = g * b.count + i, token = d.begin + b.first + i;
      store_row(sums + r * t.dim, t.h.dim, 1 / total[r], o.row<T>(token) + (b.head + g) * t.h.dim);
      if (lse)
        lse.row<float>(token)[b.head + g] =
            most[r] + static_cast<float>(__builtin_log(static_cast<double>(total[r])));
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

// each(document, its item, scratch) for all items of all documents.
template <class DocumentOf, class ItemsOf, class F>
void for_items(int64_t documents, DocumentOf document_of, ItemsOf items_of, F each) {
  int64_t items = 0, next = 0;
  for (int64_t i = 0; i < documents; ++i) items += items_of(document_of(i));
  const int64_t threads = num_threads();
  parallel_for(0, threads < items ? threads : items, 1, [&](int64_t, int64_t) {
    alignas(64) char memory[kScratchBytes];
    Walk<DocumentOf, ItemsOf> walk{0, 0, document_of, items_of};
    for (int64_t item; (item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < items;) {
      const int64_t inside = walk.seek(item);
      each(document_of(walk.index), inside, Scratch{memory});
    }
  });
}

template <class T, class Word, class DocumentOf>
void tiled_forward(const Heads& h, const Operand& q, const Operand& k, const Operand& v, const Operand& o,
                   const Operand& lse, int64_t documents, DocumentOf document_of) {
  const Tiling t(h, h.dim <= 128 ? 96 : 40, 64, per_word(Word{}));
  for_items(
      documents, document_of, [&](const Document& d) { return t.blocks(d.tokens) * t.parts * h.kv; },
      [&](const Document& d, int64_t item, Scratch scratch) {
        const int64_t kv = item % h.kv, part = item / h.kv % t.parts;
        const int64_t block = t.blocks(d.tokens) - 1 - item / h.kv / t.parts;  // the longest ones first
        forward_block<T, Word>(t, q, k, v, o, lse, d, query_block(t, d, block, kv, part), kv, scratch);
      });
}

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
