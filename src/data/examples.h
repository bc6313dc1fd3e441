// Tokenised documents in one block of memory: ids side by side, one bit a token that says whether the model
// is trained to say it. The first token of a document is never a label, as nothing predicts it.
//
//   Examples examples;
//   examples.add(ids, trained);
//   std::span<const int32_t> tokens = examples.ids(0);
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace serval {

class Examples {
 public:
  int64_t size() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t num_tokens() const { return starts_.back(); }
  int64_t num_labels() const { return num_labels_; }

  int64_t length(int64_t example) const { return start(example + 1) - start(example); }
  std::span<const int32_t> ids(int64_t example) const {
    return std::span(ids_).subspan(static_cast<size_t>(start(example)), static_cast<size_t>(length(example)));
  }
  bool trained(int64_t example, int64_t token) const {
    const auto bit = static_cast<uint64_t>(start(example) + token);
    return (trained_[bit / 64] >> (bit % 64) & 1) != 0;
  }
  int64_t labels(int64_t example) const;  // trained tokens but for the first one

  void add(std::span<const int32_t> ids, const std::vector<bool>& trained);
  void append(const Examples& others);

 private:
  int64_t start(int64_t example) const { return starts_[static_cast<size_t>(example)]; }

  std::vector<int32_t> ids_;
  std::vector<uint64_t> trained_;
  std::vector<int64_t> starts_ = {0};
  int64_t num_labels_ = 0;
};

}  // namespace serval
