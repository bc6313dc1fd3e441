// Tokenised documents, in order: blocks in memory or in mapped files (data/example_block.h), joined without
// copying. The first token of a document is never a label, as nothing predicts it.
//
//   Examples examples;
//   examples.add(ids, trained);
//   examples.append(others);                       // shares their blocks
//   std::span<const int32_t> tokens = examples.ids(0);
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/permutation.h"
#include "data/example_block.h"

namespace serval {

class Examples final : public ExampleSink {
 public:
  Examples() = default;
  explicit Examples(const std::shared_ptr<const ExampleBlock>& block) { add_part(block); }

  int64_t size() const { return size_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_labels() const { return num_labels_; }

  int64_t length(int64_t example) const {
    const Place at = find(example);
    return at.block->length(at.example);
  }
  std::span<const int32_t> ids(int64_t example) const {
    const Place at = find(example);
    return at.block->ids(at.example);
  }
  bool trained(int64_t example, int64_t token) const {
    const Place at = find(example);
    return at.block->trained(at.example, token);
  }
  int64_t labels(int64_t example) const {  // trained tokens but for the first one
    const Place at = find(example);
    return at.block->labels(at.example);
  }
  // Of a trained token: how much it counts in the loss. 1 unless weighted().
  float weight(int64_t example, int64_t token) const {
    const Place at = find(example);
    return at.block->weight(at.example, token);
  }
  bool weighted() const;
  // Numbers of the document; empty where the dataset's kind has none.
  std::span<const double> values(int64_t example) const {
    const Place at = find(example);
    return at.block->values(at.example);
  }

  void add(std::span<const int32_t> ids, const std::vector<bool>& trained,
           std::span<const float> weights = {}) override;
  void add_values(std::span<const double> values) override;
  void append(const Examples& others);
  // `count` of the others: all of them as often as they go into it, and for the rest some that are picked at
  // random, a pure function of the key.
  void append_draws(const Examples& others, int64_t count, PhiloxKey key);

  int64_t memory_bytes() const;  // of what is not in files
  void forget() const;           // ExampleBlock::forget of each block

 private:
  struct Part {
    std::shared_ptr<const ExampleBlock> block;
    int64_t begin = 0;  // of all documents, the first one of this part
    int64_t count = 0;  // documents of the block that it has: in the order of `order` where that is not empty
    Permutation order;
  };
  struct Place {
    const ExampleBlock* block;
    int64_t example;
  };
  Place find(int64_t example) const;
  void add_part(const std::shared_ptr<const ExampleBlock>& block);

  std::vector<Part> parts_;
  std::shared_ptr<ExampleBlock> growing_;  // the last part's, while nobody else shares it
  int64_t size_ = 0, num_tokens_ = 0, num_labels_ = 0;
};

}  // namespace serval
