// One block of tokenised documents, in memory while it grows or in a mapped file: ids side by side, one bit a
// token that says whether the model is trained to say it, where each document begins, and where the weight of
// labels changes; and numbers of each document, for rows that are more than text.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace serval {

// The trained tokens from this one on have the weight, up to the next run; before the first one it is 1.
struct WeightRun {
  int64_t token = 0;
  float weight = 1;
  float unused = 0;  // the struct is written to files: no byte of it is left to chance
};

// Whatever takes documents one by one.
class ExampleSink {
 public:
  virtual ~ExampleSink() = default;
  // `weights` is empty (all count alike) or has one above 0 for each trained token; those of others are not
  // looked at.
  virtual void add(std::span<const int32_t> ids, const std::vector<bool>& trained,
                   std::span<const float> weights = {}) = 0;
  // Numbers that belong to the document that was added last (data/group_example.h says which). Every document
  // has some, or none has.
  virtual void add_values(std::span<const double> values) = 0;
};

class ExampleBlock {
 public:
  ExampleBlock() = default;
  ExampleBlock(const ExampleBlock&) = delete;
  ExampleBlock& operator=(const ExampleBlock&) = delete;

  int64_t size() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t num_tokens() const { return starts_.back(); }
  int64_t num_labels() const { return num_labels_; }
  int64_t length(int64_t example) const { return start(example + 1) - start(example); }
  std::span<const int32_t> ids(int64_t example) const {
    return ids_.subspan(static_cast<size_t>(start(example)), static_cast<size_t>(length(example)));
  }
  bool trained(int64_t example, int64_t token) const {
    const auto bit = static_cast<uint64_t>(start(example) + token);
    return (trained_[bit / 64] >> (bit % 64) & 1) != 0;
  }
  int64_t labels(int64_t example) const;
  float weight(int64_t example, int64_t token) const;
  bool weighted() const { return !weights_.empty(); }
  std::span<const double> values(int64_t example) const {
    if (value_starts_.empty()) return {};
    const auto begin = static_cast<size_t>(value_starts_[static_cast<size_t>(example)]);
    return values_.subspan(begin,
                           static_cast<size_t>(value_starts_[static_cast<size_t>(example) + 1]) - begin);
  }

  void add(std::span<const int32_t> ids, const std::vector<bool>& trained, std::span<const float> weights);
  void add_values(std::span<const double> values);

  // Gives back the memory of a mapped file's pages; they are read again when needed.
  void forget() const;
  int64_t memory_bytes() const { return in_memory_bytes_; }

 private:
  friend class ExampleFile;
  int64_t start(int64_t example) const { return starts_[static_cast<size_t>(example)]; }

  std::span<const int32_t> ids_;
  std::span<const uint64_t> trained_;
  std::span<const int64_t> starts_ = kNoStarts;
  std::span<const WeightRun> weights_;
  std::span<const double> values_;
  std::span<const int64_t> value_starts_;  // of each document and the end; empty where none has values
  int64_t num_labels_ = 0;

  // What the spans show: one of the two.
  MappedFile file_;
  std::vector<int32_t> own_ids_;
  std::vector<uint64_t> own_trained_;
  std::vector<int64_t> own_starts_ = {0};
  std::vector<WeightRun> own_weights_;
  std::vector<double> own_values_;
  std::vector<int64_t> own_value_starts_;
  int64_t in_memory_bytes_ = 0;

  static constexpr int64_t kNoStarts[1] = {0};
};

}  // namespace serval
