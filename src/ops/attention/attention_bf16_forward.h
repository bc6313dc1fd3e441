// Attention of bf16, forward ("FlashAttention-2"). A thread takes panels of one key head one after the other,
// each against blocks of 32 keys, and packs those keys and values once for all of them. The products with the
// values follow for eight blocks at once. Every sum runs over keys in ascending order whatever the threads
// do.
#pragma once
#include "ops/attention/attention_bf16_softmax.h"

namespace serval::SERVAL_ISA {
namespace {

template <class Products>
class Bf16Forward {
 public:
  const Heads& h;
  const Operand &q, &k, &v, &o, &lse;
  int64_t dim;        // rounded up to 32
  int64_t span;       // keys that are packed at a time
  bool spans;         // some document has more keys
  int64_t most_keys;  // of a document

  Bf16Forward(const Heads& heads, const Operand& query, const Operand& key, const Operand& value,
              const Operand& output, const Operand& log_sum, int64_t longest)
      : h(heads), q(query), k(key), v(value), o(output), lse(log_sum), most_keys(longest), fetched_(heads) {
    constexpr int64_t kPackedBytes = 512 << 10;
    dim = round_up(h.dim, kChunk);
    const int64_t most = kPackedBytes / (4 * dim) / kPanel * kPanel;
    spans = most_keys > most;
    span = spans ? most : round_up(most_keys, kPanel);
    const float scale = static_cast<float>(h.scale) * kLog2E;
    flip_ = scale < 0 ? 0x8000 : 0;
    scale_ = scale < 0 ? -scale : scale;
  }

  // Panels [begin, end) of one key head.
  void run(const Panels& panels, int64_t kv, int64_t begin, int64_t end) {
    if (!memory_) allocate();
    panels_ = &panels, kv_ = kv;
    const int64_t batch = spans ? kBatch : end - begin;
    for (int64_t first = begin; first < end; first += batch) {
      const int64_t last = smaller(first + batch, end);
      const int64_t low = panels.keys(panels.at(kv, first)).begin,
                    high = panels.keys(panels.at(kv, last - 1)).end;
      for (int64_t from = low / span * span; from < high; from += span)
        for (int64_t index = first; index < last; ++index) add_panel(index, spans ? index - first : 0, from);
    }
  }

 private:
  static constexpr int64_t kWeights = 8;  // blocks whose weights are kept
  static constexpr int64_t kBatch = 32;   // panels for which a span of keys is packed

  void allocate() {
    const int64_t slots = spans ? kBatch : 1, softmax_bytes = static_cast<int64_t>(sizeof(SoftmaxRows));
    const int64_t bytes = (4 * span + 2 * kPanel) * dim + slots * (kPanel * dim * 4 + softmax_bytes) +
                          kPanel * kPanel * 4 + kWeights * kChunkBytes + 4096;
    Cutter cutter{static_cast<char*>(thread_scratch().at_least(bytes))};
    keys_ = cutter.take<char>(span * dim * 2), values_ = cutter.take<char>(span * dim * 2);
    queries_ = cutter.take<uint16_t>(kPanel * dim);
    sums_ = cutter.take<float>(slots * kPanel * dim);
    softmax_ = cutter.take<SoftmaxRows>(slots);
    scores_ = cutter.take<float>(kPanel * kPanel);
    weights_ = cutter.take<uint16_t>(kWeights * kPanel * kChunk);
    memory_ = true;
  }

  // Packs keys [begin, end) of the span at `from`, of which some may lie there already.
  void pack(int64_t from, int64_t begin, int64_t end) {
    const Document& d = panels_->d;
    const int64_t whole = smaller(round_up(end, kPanel), d.past + d.tokens);
    const bool same = packed_.document == d.begin && packed_.kv == kv_ && packed_.from == from &&
                      packed_.begin <= begin && packed_.end >= begin;
    if (same && packed_.end >= end) return;
    if (!same) packed_ = {d.begin, kv_, from, begin, begin};
    // What is packed ends with whole panels, or with the document.
    const int64_t first = packed_.end / kPanel * kPanel, count = whole - from, row = d.key_begin + from;
    const int64_t panel0 = (first - from) / kPanel, panel1 = (count + kPanel - 1) / kPanel;
    const int64_t dim_chunks = dim / kChunk;
    for (int64_t panel = panel0; panel < panel1; ++panel) {
      pack_panels<false, false>(k.row<uint16_t>(row) + kv_ * h.dim, k.row_stride, count, h.dim, panel,
                                panel + 1, 0, dim_chunks, dim_chunks * kChunkBytes, keys_);
      pack_panels<false, true>(v.row<uint16_t>(row) + kv_ * h.dim, v.row_stride, h.dim, count, 0, dim_chunks,
                               panel, panel + 1, span / kChunk * kChunkBytes, values_);
    }
    packed_.end = whole;
  }

  // Keys of the span at `from` that a panel sees.
  void add_panel(int64_t index, int64_t slot, int64_t from) {
    const Panel panel = panels_->at(kv_, index);
    const KeyRange all = panels_->keys(panel);
    const int64_t begin = all.begin > from ? all.begin : from, end = smaller(all.end, from + span);
    if (begin >= end) return;
    pack(from, begin, end);
    pack_rows(q, h, panels_->d, panel, dim, flip_, queries_);
    fetch_rows(index, end == all.end);
    const int64_t fetches = fetched_.left() / ((end - begin + kPanel - 1) / kPanel) + 1;
    SoftmaxRows& softmax = softmax_[slot];
    float* const sums = sums_ + slot * kPanel * dim;
    if (begin == all.begin) softmax.clear();
    bool started = begin > all.begin;  // are there sums?
    const int64_t bytes = dim / kChunk * kChunkBytes, rows = panel.rows();
    int64_t kept = 0, chunk = (begin - from) / kChunk;
    for (int64_t key = begin; key < end; key += kPanel, ++chunk) {
      if (kept == kWeights) add_values(panel, chunk, kept, sums, started);
      products_.multiply(rows, kPanel, reinterpret_cast<const char*>(queries_), keys_ + chunk * bytes,
                         dim / kChunk, scores_, kPanel, true);
      fetched_.fetch(fetches);
      __mmask32 seen[kPanel];
      const ScoreBlock block{scores_, rows, scale_, seen};
      const bool masked = mask(panel, key, seen);
      if (masked ? exceeds<true>(block, softmax) : exceeds<false>(block, softmax)) {
        if (kept > 0) add_values(panel, chunk, kept, sums, started);
        (masked ? raise<true> : raise<false>)(block, softmax, started ? sums : nullptr, dim);
      }
      uint16_t* const weights = weights_ + kept++ * kPanel * kChunk;
      masked ? weigh<true>(block, softmax, weights) : weigh<false>(block, softmax, weights);
    }
    add_values(panel, chunk, kept, sums, started);
    if (end == all.end) store_panel(panel, softmax, sums);
  }

  // Which of the 32 keys from `key` on each row sees; false if all see all.
  bool mask(const Panel& panel, int64_t key, __mmask32* seen) const {
    const int64_t first = panels_->d.past + panel.first;
    if (key + kPanel - 1 <= first && first_key(first + panel.count - 1, key, h.window) <= key) return false;
    for (int64_t row = 0; row < panel.rows(); ++row) {
      const int64_t position = first + row % panel.count;
      seen[row] = lanes32(position + 1 - key) & ~lanes32(first_key(position, key, h.window) - key);
    }
    return true;
  }

  // What is written at the end of a panel, and read for the next one.
  void fetch_rows(int64_t index, bool ends) {
    const Document& d = panels_->d;
    fetched_.clear();
    if (ends) fetched_.add(o, d, panels_->at(kv_, index), true);
    const bool same = index + 1 < panels_->size;
    const int64_t kv = same ? kv_ : kv_ + 1;
    if (kv == h.kv) return;
    const Panel next = panels_->at(kv, same ? index + 1 : 0);
    fetched_.add(q, d, next);
    const KeyRange range = panels_->keys(next);
    const int64_t begin = same && packed_.end > range.begin ? packed_.end : range.begin,
                  count = smaller(range.end - begin, 2 * kPanel);
    fetched_.add(k, d.key_begin + begin, count, kv);
    fetched_.add(v, d.key_begin + begin, count, kv);
  }

  // The product of the weights that are kept with the values before `chunk`.
  void add_values(const Panel& panel, int64_t chunk, int64_t& kept, float* sums, bool& started) {
    const char* const values = values_ + (chunk - kept) * kChunkBytes;
    for (int64_t c = 0; c < dim; c += kPanel)
      products_.multiply(panel.rows(), smaller(h.dim - c, kPanel), reinterpret_cast<const char*>(weights_),
                         values + c / kPanel * (span / kChunk * kChunkBytes), kept, sums + c, dim, !started);
    kept = 0, started = true;
  }

  void store_panel(const Panel& p, const SoftmaxRows& softmax, const float* sums) const {
    float factors[kPanel], log_sums[kPanel];
    finish(softmax, factors, log_sums);
    for (int64_t g = 0; g < p.heads; ++g) {
      for (int64_t i = 0; i < p.count; ++i) {
        const int64_t r = g * p.count + i, token = panels_->d.begin + p.first + i;
        round_row(sums + r * dim, h.dim, factors[r], o.row<BFloat16>(token) + (p.head + g) * h.dim);
        if (lse) lse.row<float>(token)[p.head + g] = log_sums[r];
      }
    }
  }

  struct Packed {
    int64_t document, kv, from, begin, end;
  };

  uint16_t flip_;
  float scale_;  // times log2(e)
  bool memory_ = false;
  char *keys_ = nullptr, *values_ = nullptr;
  uint16_t* queries_ = nullptr;
  float* sums_ = nullptr;
  SoftmaxRows* softmax_ = nullptr;
  float* scores_ = nullptr;      // of a block
  uint16_t* weights_ = nullptr;  // as A
  Packed packed_ = {-1, 0, 0, 0, 0};
  const Panels* panels_ = nullptr;
  int64_t kv_ = 0;
  RowQueue fetched_;
  Products products_;
};

}  // namespace
}  // namespace serval::SERVAL_ISA
