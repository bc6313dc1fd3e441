// Packing by best fit, longest first: each document goes into the bin with the least room that still holds
// it, so bins are filled well and no document is ever cut. Deterministic: documents of one length keep their
// order.
//
//   const Packing packing = pack_best_fit(lengths, max_length);
//   for (int64_t bin = 0; bin < packing.num_bins(); ++bin) use(packing.documents(bin));
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "data/example_block.h"

namespace serval {

struct Packing {
  std::vector<int64_t> members;  // indices of documents, bin after bin
  std::vector<int64_t> starts;   // of each bin in `members`, and the end
  double utilisation = 0;        // tokens over num_bins * capacity

  int64_t num_bins() const { return static_cast<int64_t>(starts.size()) - 1; }
  std::span<const int64_t> documents(int64_t bin) const {
    const auto begin = static_cast<size_t>(starts[static_cast<size_t>(bin)]);
    return std::span(members).subspan(begin,
                                      static_cast<size_t>(starts[static_cast<size_t>(bin) + 1]) - begin);
  }
};

// Every length is in [1, capacity]. Each `window` documents in turn are packed by themselves (0: all at
// once), so that a stream need not hold more of them. O(n log n).
Packing pack_best_fit(std::span<const int64_t> lengths, int64_t capacity, int64_t window = 0);

// What TRL's other strategies do to the documents before rows are made of them:
//  - split (bfd_split): a document longer than `capacity` becomes pieces of that length and a rest, documents
//    of their own from then on;
//  - wrapped: all documents end to end, in their order, cut each `capacity` tokens wherever that falls. Such
//  a
//    row is one document: its tokens see what stands before them, of other documents too.
// The first token of a piece is no label, as nothing predicts it. Pieces without a label are left out.
class PieceSink final : public ExampleSink {
 public:
  // Pieces go on to `next`, which outlives this. capacity > 1.
  PieceSink(ExampleSink& next, int64_t capacity, bool wrapped);
  void add(std::span<const int32_t> ids, const std::vector<bool>& trained,
           std::span<const float> weights = {}) override;
  void finish();  // hands over what is left of the last row

 private:
  ExampleSink& next_;
  size_t capacity_;
  bool wrapped_;
  std::vector<int32_t> ids_;
  std::vector<bool> trained_;
  std::vector<float> weights_;  // empty while all are 1
};

}  // namespace serval
