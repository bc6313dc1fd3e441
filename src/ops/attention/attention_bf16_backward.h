// The gradient of attention of bf16. With P = exp(scale Q K^T - lse) and D = rowsum(dO o):
//   dV = P^T dO, dS = scale P (dO V^T - D), dQ = dS K, dK = dS^T Q.
// A thread packs a span of keys, then takes eight panels of queries at a time: block by block of 32 keys it
// computes P and dS, in the layouts in which the products read them, and adds to dV^T and dK^T of those keys;
// then to dQ of the panels. Every sum runs over panels or keys in ascending order whatever the threads do.
#pragma once
#include "ops/attention/attention_bf16_gradient.h"

namespace serval::SERVAL_ISA {
namespace {

struct BackwardOperands {
  const Heads& h;
  const Operand &d_o, &q, &k, &v, &o, &lse, &dq, &dk, &dv;
  float* dq_sums;  // for documents with more keys than a span; see dq_rows
  int64_t tokens;  // of all documents
};

// Rows of dq_sums before those of a document that begins at token `begin`: a document that needs them has at
// least 256 tokens, so an eighth of them is room for whole panels.
SERVAL_INLINE int64_t dq_rows(int64_t begin) {
  return begin + begin / 8;
}

template <class Products>
class Bf16Backward {
 public:
  explicit Bf16Backward(const BackwardOperands& operands, int64_t longest)
      : x(operands), h(operands.h), fetched_(operands.h) {
    constexpr int64_t kSpanElements = 128 << 10;
    dim = round_up(h.dim, kChunk);
    span = kSpanElements / dim / kPanel * kPanel;
    if (span > round_up(longest, kPanel)) span = round_up(longest, kPanel);
    scale_ = static_cast<float>(h.scale);
  }

  // Keys [key_begin, key_end) of one key head against its panels [begin, end); key_begin is a multiple of 32.
  // What is computed: dK and dV of these keys, which needs all panels; dQ of these panels, which needs all
  // keys.
  void run(const Panels& panels, int64_t kv, int64_t begin, int64_t end, int64_t key_begin, int64_t key_end,
           bool with_keys, bool with_queries) {
    if (queries_ == nullptr) allocate();
    panels_ = &panels, kv_ = kv, with_keys_ = with_keys, with_queries_ = with_queries;
    const int64_t low = panels.keys(panels.at(kv, begin)).begin,
                  high = smaller(panels.keys(panels.at(kv, end - 1)).end, key_end);
    for (int64_t from = key_begin > low ? key_begin : low; from < high; from += span) {
      begin_span(from, smaller(from + span, high));
      for (int64_t first = begin; first < end; first += kMostPanels) {
        const int64_t last = smaller(first + kMostPanels, end);
        if (panels.keys(panels.at(kv, last - 1)).end <= from) continue;
        if (panels.keys(panels.at(kv, first)).begin >= span_end_) break;
        const int64_t next = smaller(last + kMostPanels, end);
        const bool ends = last == end || panels.keys(panels.at(kv, last)).begin >= span_end_;
        add_queries(first, last, ends ? last : next);
      }
      for (int64_t key = 0; key < blocks_ && with_keys; ++key)
        if (!stored_[key]) store_keys(key);
    }
  }

 private:
  static constexpr int64_t kMostPanels = 8;
  using Query = GradientRows;

  void allocate() {
    const int64_t keys = span / kPanel, row = dim * kPanel;
    const int64_t bytes = keys * (3 * row * 2 + 2 * row * 4 + kMostPanels * kChunkBytes + 2) +
                          kMostPanels * (4 * row * 2 + row * 4 + 3 * kChunkBytes) + 2 * kBlockFloats * 4 +
                          4096;
    Cutter cutter{static_cast<char*>(thread_scratch().at_least(bytes))};
    keys_ = cutter.take<char>(keys * row * 2), values_ = cutter.take<char>(keys * row * 2);
    key_rows_ = cutter.take<char>(keys * row * 2);
    dk_ = cutter.take<float>(keys * row), dv_ = cutter.take<float>(keys * row);
    ds_rows_ = cutter.take<char>((keys | 1) * kMostPanels * kChunkBytes);
    started_ = cutter.take<bool>(keys), stored_ = cutter.take<bool>(keys);
    queries_ = cutter.take<uint16_t>(kMostPanels * row), grads_ = cutter.take<uint16_t>(kMostPanels * row);
    queries_across_ = cutter.take<char>(kMostPanels * row * 2);
    grads_across_ = cutter.take<char>(kMostPanels * row * 2);
    dq_ = cutter.take<float>(kMostPanels * row);
    p_ = cutter.take<char>(kMostPanels * kChunkBytes), ds_ = cutter.take<char>(kMostPanels * kChunkBytes);
    scores_ = cutter.take<float>(2 * kBlockFloats);
  }

  SERVAL_INLINE int64_t dims() const { return dim / kChunk; }  // panels or chunks of a head

  void begin_span(int64_t from, int64_t end) {
    const int64_t count = smaller(round_up(end - from, kPanel), panels_->d.tokens - from);
    span_begin_ = from, span_end_ = from + count, blocks_ = (count + kPanel - 1) / kPanel, packed_ = 0;
    row_blocks_ = blocks_ | 1;  // rows of dS do not meet in the first cache
    for (int64_t i = 0; i < blocks_; ++i) started_[i] = stored_[i] = false;
  }
  // Packs the keys and values of the span before block `end`.
  void pack_keys(int64_t end) {
    const int64_t count = span_end_ - span_begin_, row = panels_->d.key_begin + span_begin_;
    const uint16_t* const k = x.k.row<uint16_t>(row) + kv_ * h.dim;
    const uint16_t* const v = x.v.row<uint16_t>(row) + kv_ * h.dim;
    const int64_t bytes = dims() * kChunkBytes;
    for (; packed_ < end; ++packed_) {
      const int64_t next = packed_ + 1;
      pack_panels<false, false>(v, x.v.row_stride, count, h.dim, packed_, next, 0, dims(), bytes, values_);
      pack_panels<false, false>(k, x.k.row_stride, count, h.dim, packed_, next, 0, dims(), bytes, keys_);
      if (with_queries_)
        pack_panels<false, true>(k, x.k.row_stride, h.dim, count, 0, dims(), packed_, next,
                                 blocks_ * kChunkBytes, key_rows_);
    }
  }

  // What is written after panels [first, last), and read for those up to `next`, the last ones of the span
  // if that is `last`.
  void fetch_rows(int64_t last, int64_t next) {
    const Document& d = panels_->d;
    fetched_.clear();
    for (int64_t i = 0; i < count_ && with_queries_; ++i)
      if (query_[i].last) fetched_.add(x.dq, d, query_[i].panel, true);
    if (next == last) return;
    for (int64_t i = last; i < next; ++i) {
      const Panel panel = panels_->at(kv_, i);
      for (const Operand* operand : {&x.q, &x.d_o, &x.o}) fetched_.add(*operand, d, panel);
    }
    const int64_t from = span_begin_ + packed_ * kPanel,
                  end = smaller(panels_->keys(panels_->at(kv_, next - 1)).end, span_end_);
    fetched_.add(x.k, d.key_begin + from, end - from, kv_);
    fetched_.add(x.v, d.key_begin + from, end - from, kv_);
  }

  // Panels [first, last) against the span; see fetch_rows.
  void add_queries(int64_t first, int64_t last, int64_t next) {
    count_ = last - first;
    int64_t blocks = 1;
    for (int64_t i = 0; i < count_; ++i) {
      load_query(first + i, i);
      blocks += query_[i].block_end - query_[i].block_begin;
    }
    pack_keys(query_[count_ - 1].block_end);
    fetch_rows(last, next);
    const int64_t fetches = fetched_.left() / blocks + 1 + (next == last ? 16 : 0);
    // What a panel sees begins and ends no earlier than what the one before sees.
    for (int64_t key = query_[0].block_begin; key < query_[count_ - 1].block_end; ++key) {
      const bool ends = with_keys_ && next == last;
      if (ends) {
        const int64_t row = panels_->d.key_begin + span_begin_ + key * kPanel,
                      rows = smaller(kPanel, span_end_ - span_begin_ - key * kPanel);
        if (x.dk) fetched_.add(x.dk, row, rows, kv_, true);
        if (x.dv) fetched_.add(x.dv, row, rows, kv_, true);
      }
      int64_t begin = -1, end = 0;  // the panels that see these keys
      for (int64_t i = 0; i < count_; ++i) {
        if (key < query_[i].block_begin || key >= query_[i].block_end) continue;
        weigh_block(i, key);
        fetched_.fetch(fetches);
        if (begin < 0) begin = i;
        end = i + 1;
      }
      if (with_keys_ && end > 0) add_keys(key, begin, end);
      if (ends) store_keys(key);
    }
    if (!with_queries_) return;
    for (int64_t i = 0; i < count_; ++i) {
      add_dq(query_[i], ds_rows_ + i * row_blocks_ * kChunkBytes);
      if (query_[i].last) store_query(query_[i]);
    }
  }

  // Eight blocks at a time: so much of dS stays in the first cache for all elements of the head.
  void add_dq(const Query& query, const char* ds_rows) {
    constexpr int64_t kStep = 8;
    for (int64_t key = query.block_begin; key < query.block_end; key += kStep)
      for (int64_t c = 0; c < dims(); ++c)
        products_.multiply(query.panel.rows(), smaller(h.dim - c * kPanel, kPanel),
                           ds_rows + key * kChunkBytes, key_rows_ + (c * blocks_ + key) * kChunkBytes,
                           smaller(kStep, query.block_end - key), query.dq + c * kBlockFloats, kPanel,
                           query.first && key == query.block_begin);
  }

  void load_query(int64_t index, int64_t i) {
    const Document& d = panels_->d;
    Query& query = query_[i];
    const Panel p = query.panel = panels_->at(kv_, index);
    const KeyRange keys = panels_->keys(p);
    const int64_t low = keys.begin > span_begin_ ? keys.begin : span_begin_,
                  high = smaller(keys.end, span_end_);
    query.position = d.past + p.first;
    query.block_begin = (low - span_begin_) / kPanel;
    query.block_end = high > low ? (high - span_begin_ + kPanel - 1) / kPanel : query.block_begin;
    query.first = keys.begin >= span_begin_ && high > low;
    query.last = keys.end <= span_end_ && high > low;
    query.dq = dq_ + i * kPanel * dim;
    if (with_queries_ && !(query.first && query.last))
      query.dq = x.dq_sums + ((kv_ * dq_rows(x.tokens) + dq_rows(d.begin)) * h.group + index * kPanel) * dim;

    uint16_t *const q = queries_ + i * kPanel * dim, *const grads = grads_ + i * kPanel * dim;
    pack_rows(x.q, h, d, p, dim, 0, q);
    pack_rows(x.d_o, h, d, p, dim, 0, grads);
    for (int64_t c = 0; c < dims() && with_keys_; ++c) {
      const int64_t to = (c * kMostPanels + i) * kChunkBytes;
      pack_chunk_a<true>(q + c * kPanel * kChunk, kChunk, kPanel, kChunk, queries_across_ + to);
      pack_chunk_a<true>(grads + c * kPanel * kChunk, kChunk, kPanel, kChunk, grads_across_ + to);
    }
    load_rows(h, d, x.o, x.lse, grads, scale_, query);
  }

  // P and dS of a panel of queries and a panel of keys.
  void weigh_block(int64_t i, int64_t key) {
    const Query& query = query_[i];
    const int64_t rows = query.panel.rows(), bytes = dims() * kChunkBytes;
    products_.multiply(rows, kPanel, reinterpret_cast<const char*>(queries_ + i * kPanel * dim),
                       keys_ + key * bytes, dims(), scores_, kPanel, true);
    products_.multiply(rows, kPanel, reinterpret_cast<const char*>(grads_ + i * kPanel * dim),
                       values_ + key * bytes, dims(), scores_ + kBlockFloats, kPanel, true);
    const int64_t begin = span_begin_ + key * kPanel, last = query.position + query.panel.count - 1;
    const bool masked =
        begin + kPanel - 1 > query.position || first_key(last, begin, h.window) > begin || rows < kPanel;
    const GradientBlock block{scores_, scores_ + kBlockFloats, p_ + i * kChunkBytes, ds_ + i * kChunkBytes,
                              ds_rows_ + (i * row_blocks_ + key) * kChunkBytes};
    (masked ? gradient_block<true> : gradient_block<false>)(query, begin, h.window, scale_, block);
  }

  // Adds what panels [first, last) give to dV^T and dK^T of a panel of keys.
  void add_keys(int64_t key, int64_t first, int64_t last) {
    const int64_t at = first * kChunkBytes;
    const auto add = [&](const char* rows_across, const char* weights, float* sums) {
      for (int64_t c = 0; c < dims(); ++c)
        products_.multiply(smaller(h.dim - c * kPanel, kPanel), kPanel,
                           rows_across + c * kMostPanels * kChunkBytes + at, weights + at, last - first,
                           sums + (key * dims() + c) * kBlockFloats, kPanel, !started_[key]);
    };
    add(grads_across_, p_, dv_);
    add(queries_across_, ds_, dk_);
    started_[key] = true;
  }

  void store_query(const Query& query) const {
    const Panel& p = query.panel;
    for (int64_t g = 0; g < p.heads; ++g)
      for (int64_t t = 0; t < p.count; ++t)
        for (int64_t c = 0; c < dims(); ++c)
          round_row(query.dq + c * kBlockFloats + (g * p.count + t) * kPanel,
                    smaller(h.dim - c * kPanel, kPanel), 1,
                    x.dq.row<BFloat16>(panels_->d.begin + p.first + t) + (p.head + g) * h.dim + c * kPanel);
  }
  void store_keys(int64_t key) {
    const int64_t first = span_begin_ + key * kPanel, count = smaller(kPanel, span_end_ - first);
    const int64_t row = panels_->d.key_begin + first, sums = key * dims() * kBlockFloats;
    if (x.dk) round_across(dk_ + sums, count, h.dim, x.dk.row<BFloat16>(row) + kv_ * h.dim, x.dk.row_stride);
    if (x.dv) round_across(dv_ + sums, count, h.dim, x.dv.row<BFloat16>(row) + kv_ * h.dim, x.dv.row_stride);
    stored_[key] = true;
  }
  const BackwardOperands& x;
  const Heads& h;
  int64_t dim, span;
  float scale_;
  const Panels* panels_ = nullptr;
  int64_t kv_ = 0;
  bool with_keys_ = false, with_queries_ = false;
  int64_t span_begin_ = 0, span_end_ = 0, blocks_ = 0, row_blocks_ = 0,
          packed_ = 0;  // the keys of the span; panels of them
  char *keys_ = nullptr, *values_ = nullptr, *key_rows_ = nullptr;
  float *dk_ = nullptr, *dv_ = nullptr;          // 32 x 32 of [element, key]
  bool *started_ = nullptr, *stored_ = nullptr;  // have those of a key panel been written? and rounded?
  int64_t count_ = 0;
  RowQueue fetched_;
  Query query_[kMostPanels];
  uint16_t *queries_ = nullptr, *grads_ = nullptr;
  char *queries_across_ = nullptr, *grads_across_ = nullptr;
  float* dq_ = nullptr;
  char* ds_rows_ = nullptr;            // dS of all panels and keys, as A
  char *p_ = nullptr, *ds_ = nullptr;  // of a panel of keys, as B
  float* scores_ = nullptr;            // of a block, and the products of dO and V
  Products products_;
};

}  // namespace
}  // namespace serval::SERVAL_ISA
