// Packing by best fit, longest first: each document goes into the bin with the least room that still holds
// it, so bins are filled well and no document is ever cut. Deterministic: documents of one length keep their
// order, and of bins with the same room the oldest is filled first.
//
//   const Packing packing = pack_best_fit(lengths, max_length);
//   for (int64_t bin = 0; bin < packing.num_bins(); ++bin) use(packing.documents(bin));
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/disk_vector.h"
#include "data/example_block.h"

namespace serval {

struct Packing {
  DiskVector<int64_t> members;  // indices of documents, bin after bin
  DiskVector<int64_t> starts;   // of each bin in `members`, and the end
  double utilisation = 0;       // tokens over num_bins * capacity

  int64_t num_bins() const { return starts.empty() ? 0 : static_cast<int64_t>(starts.size()) - 1; }
  std::span<const int64_t> documents(int64_t bin) const {
    const auto begin = static_cast<size_t>(starts[static_cast<size_t>(bin)]);
    return members.span().subspan(begin, static_cast<size_t>(starts[static_cast<size_t>(bin) + 1]) - begin);
  }
  // Gives back the memory of pages on the disk, and what is held beside those.
  void forget() const;
  int64_t memory_bytes() const { return members.memory_bytes() + starts.memory_bytes(); }
};

// Documents 0 to count - 1, whose lengths, in [1, capacity], are asked for as often as is needed. Each
// `window` documents in turn are packed by themselves (0: all at once). Memory grows with the number of
// different lengths alone: what is kept of each document lies in files in `directory` (data/disk_vector.h).
Packing pack_best_fit(int64_t count, const std::function<int64_t(int64_t document)>& length, int64_t capacity,
                      int64_t window = 0, const std::string& directory = {});
Packing pack_best_fit(std::span<const int64_t> lengths, int64_t capacity, int64_t window = 0);

// What TRL's other strategies do to the documents before rows are made of them:
//  - split (bfd_split): a document longer than `capacity` becomes pieces of that length and a rest, documents
//    of their own from then on;
//  - wrapped: all documents end to end, in their order, cut each `capacity` tokens wherever that falls. Such
//    a row is one document: its tokens see what stands before them, of other documents too.
// The first token of a piece is no label, as nothing predicts it. Pieces without a label are left out.
class PieceSink final : public ExampleSink {
 public:
  // Pieces go on to `next`, which outlives this. capacity > 1.
  PieceSink(ExampleSink& next, int64_t capacity, bool wrapped);
  void add(std::span<const int32_t> ids, const std::vector<bool>& trained,
           std::span<const float> weights = {}) override;
  void add_values(std::span<const double> values) override;  // pieces have none
  void finish();                                             // hands over what is left of the last row

 private:
  ExampleSink& next_;
  size_t capacity_;
  bool wrapped_;
  std::vector<int32_t> ids_;
  std::vector<bool> trained_;
  std::vector<float> weights_;  // empty while all are 1
};

}  // namespace serval
