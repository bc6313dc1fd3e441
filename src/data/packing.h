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

// Every length is in [1, capacity]. O(n log n).
Packing pack_best_fit(std::span<const int64_t> lengths, int64_t capacity);

}  // namespace serval
