// The batches of a training run, as whole optimiser steps: the loss divides by the labelled tokens of all
// their micro-batches. Documents are laid end to end and never padded; `cu_seqlens` says where each begins. A
// row is one document, a group of them (a chosen and a rejected answer), or with packing one bin of
// documents. Each epoch has its own order, a pure function of seed and epoch whose memory does not grow with
// the data, so a stream that is restored continues exactly as one that never stopped.
//
//   BatchStream stream(std::move(examples), {.batch_size = 4, .accumulation = 2, .seed = 42});
//   const StepBatch step = stream.next();              // without end: epoch after epoch
//   checkpoint.set("data", stream.state());
//   other.restore(checkpoint.at("data"), path);
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/permutation.h"
#include "data/examples.h"
#include "data/packing.h"

namespace serval {

struct MicroBatch {
  std::vector<int32_t> input_ids, position_ids;  // positions begin again with each document
  std::vector<int32_t> cu_seqlens;               // documents + 1: first token of each, and the end
  std::vector<int32_t> label_rows;               // tokens whose successor is trained, ascending
  std::vector<int32_t> labels;                   // those successors
  std::vector<float> weights;                    // of each label in the loss; empty: all count alike
  std::vector<int64_t> documents;                // of the stream's examples, for their values

  int64_t num_tokens() const { return static_cast<int64_t>(input_ids.size()); }
  int64_t num_documents() const { return static_cast<int64_t>(cu_seqlens.size()) - 1; }
  int64_t num_labels() const { return static_cast<int64_t>(labels.size()); }
  double label_weight() const;  // what the labels count together
  friend bool operator==(const MicroBatch&, const MicroBatch&) = default;
};

struct StepBatch {
  std::vector<MicroBatch> micro_batches;
  int64_t num_tokens = 0, num_labels = 0;
  double epoch = 0;  // passes over the data once this step is done
  friend bool operator==(const StepBatch&, const StepBatch&) = default;
};

// The most that any micro-batch can hold, in whatever order the rows come.
struct BatchCapacity {
  int64_t tokens = 0, documents = 0, labels = 0;
  int64_t longest = 0;  // tokens of the longest document; 0: not known
};

MicroBatch make_micro_batch(const Examples& examples, std::span<const int64_t> documents);

struct BatchOptions {
  int64_t batch_size = 1;    // rows of a micro-batch
  int64_t accumulation = 1;  // micro-batches of an optimiser step; the last step of an epoch may have fewer
  int64_t group_size = 1;    // documents of a row that is not packed: 2 of a pair (data/group_example.h)
  bool packing = false;
  int64_t max_length = 0;      // of a packed row
  int64_t packing_window = 0;  // documents that are packed at a time; 0: all
  uint64_t seed = 42;
  bool shuffle = true;
  bool drop_last = false;   // leave out the last micro-batch of an epoch where it is not full
  std::string directory{};  // of temporary files: the table of packed rows, where it is large
};

class BatchStream {
 public:
  BatchStream(Examples examples, const BatchOptions& options);

  StepBatch next();
  int64_t num_rows() const {
    return options_.packing ? packing_.num_bins() : examples_.size() / options_.group_size;
  }
  int64_t micro_batches_per_epoch() const { return micro_batches_; }
  int64_t steps_per_epoch() const;
  double utilisation() const { return options_.packing ? packing_.utilisation : 1; }  // of packed rows
  const BatchCapacity& capacity() const { return capacity_; }
  int64_t max_tokens_per_micro_batch() const { return capacity_.tokens; }
  int64_t max_documents_per_micro_batch() const { return capacity_.documents; }
  int64_t max_labels_per_micro_batch() const { return capacity_.labels; }
  const Examples& examples() const { return examples_; }
  // At most: of documents in memory, of mapped files' pages, and of the tables of rows.
  int64_t memory_bytes() const;

  // {"epoch", "position", "rows"}: whole epochs done, micro-batches done of this one, and a check of the
  // data; "order" where the rows are more than a table of them is made of (base/permutation.h).
  Json state() const;
  void restore(const Json& state, const std::string& where);

 private:
  void begin_epoch(int64_t epoch);

  Examples examples_;
  BatchOptions options_;
  Packing packing_;  // empty without packing: each row is a document
  BatchCapacity capacity_;
  int64_t micro_batches_ = 0;
  int64_t epoch_ = 0, position_ = 0;
  Permutation order_;          // of the rows in this epoch
  int64_t touched_bytes_ = 0;  // of mapped files, since their pages were last given back
};

// Evaluation: the documents in their order, once.
class EvaluationBatches {
 public:
  EvaluationBatches(const Examples& examples, int64_t batch_size);
  std::optional<MicroBatch> next();
  void rewind() { position_ = 0; }
  BatchCapacity capacity() const;

 private:
  const Examples& examples_;
  int64_t batch_size_, position_ = 0;
};

}  // namespace serval
