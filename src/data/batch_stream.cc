#include "data/batch_stream.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/philox.h"

namespace serval {
namespace {

Packing one_document_a_row(int64_t count) {
  Packing result;
  result.members.resize(static_cast<size_t>(count));
  std::iota(result.members.begin(), result.members.end(), int64_t{0});
  result.starts.resize(static_cast<size_t>(count) + 1);
  std::iota(result.starts.begin(), result.starts.end(), int64_t{0});
  result.utilisation = 1;
  return result;
}

Packing pack_examples(const Examples& examples, int64_t max_length) {
  if (max_length < 1) fail_usage("packing needs max_length, the size of a packed row in tokens");
  std::vector<int64_t> lengths(static_cast<size_t>(examples.size()));
  for (size_t i = 0; i < lengths.size(); ++i) lengths[i] = examples.length(static_cast<int64_t>(i));
  return pack_best_fit(lengths, max_length);
}

int64_t sum_of_largest(std::vector<int64_t> values, int64_t count) {
  const auto middle = values.begin() + std::min<int64_t>(count, static_cast<int64_t>(values.size()));
  std::partial_sort(values.begin(), middle, values.end(), std::greater<>());
  return std::accumulate(values.begin(), middle, int64_t{0});
}

BatchCapacity capacity_of(const Examples& examples, const Packing& rows, int64_t batch_size) {
  const auto count = static_cast<size_t>(rows.num_bins());
  std::vector<int64_t> tokens(count, 0), documents(count, 0), labels(count, 0);
  int64_t longest = 0;
  for (size_t row = 0; row < count; ++row) {
    for (const int64_t document : rows.documents(static_cast<int64_t>(row))) {
      tokens[row] += examples.length(document);
      longest = std::max(longest, examples.length(document));
      labels[row] += examples.labels(document);
      ++documents[row];
    }
  }
  return {.tokens = sum_of_largest(std::move(tokens), batch_size),
          .documents = sum_of_largest(std::move(documents), batch_size),
          .labels = sum_of_largest(std::move(labels), batch_size),
          .longest = longest};
}

void check_fits_int32(const BatchCapacity& capacity) {
  if (capacity.tokens > std::numeric_limits<int32_t>::max())
    fail_usage("a micro-batch could hold {} tokens, more than {}; lower the batch size or max_length",
               capacity.tokens, std::numeric_limits<int32_t>::max());
}

}  // namespace

MicroBatch make_micro_batch(const Examples& examples, std::span<const int64_t> documents) {
  MicroBatch result;
  result.cu_seqlens.push_back(0);
  for (const int64_t document : documents) {
    const auto ids = examples.ids(document);
    const auto begin = static_cast<int32_t>(result.input_ids.size());
    const auto length = static_cast<int32_t>(ids.size());
    result.input_ids.insert(result.input_ids.end(), ids.begin(), ids.end());
    for (int32_t token = 0; token < length; ++token) {
      result.position_ids.push_back(token);
      if (token == 0 || !examples.trained(document, token)) continue;
      result.label_rows.push_back(begin + token - 1);
      result.labels.push_back(ids[static_cast<size_t>(token)]);
    }
    result.cu_seqlens.push_back(begin + length);
  }
  return result;
}

BatchStream::BatchStream(Examples examples, const BatchOptions& options)
    : examples_(std::move(examples)), options_(options) {
  SERVAL_CHECK(options.batch_size > 0 && options.accumulation > 0);
  if (examples_.size() == 0) fail("there is no example to train on");
  packing_ =
      options.packing ? pack_examples(examples_, options.max_length) : one_document_a_row(examples_.size());
  check_fits_int32(capacity());
  const int64_t rows = num_rows();
  micro_batches_ = rows / options.batch_size;
  if (!options.drop_last && rows % options.batch_size != 0) ++micro_batches_;
  if (micro_batches_ == 0)
    fail_usage(
        "{} rows do not fill one batch of {} and the last partial batch is dropped; lower the batch size",
        rows, options.batch_size);
  begin_epoch(0);
}

void BatchStream::begin_epoch(int64_t epoch) {
  epoch_ = epoch;
  position_ = 0;
  order_.resize(static_cast<size_t>(num_rows()));
  std::iota(order_.begin(), order_.end(), int64_t{0});
  if (!options_.shuffle) return;
  const PhiloxKey key = philox_key(options_.seed, "data", static_cast<uint32_t>(epoch), 0);
  for (size_t i = order_.size() - 1; i > 0; --i) {
    const auto words = philox_block(key, i);
    const uint64_t random = uint64_t{words[0]} << 32 | words[1];
    std::swap(order_[i], order_[random % (i + 1)]);
  }
}

StepBatch BatchStream::next() {
  if (position_ == micro_batches_) begin_epoch(epoch_ + 1);
  StepBatch step;
  std::vector<int64_t> documents;
  for (int64_t i = 0; i < options_.accumulation && position_ < micro_batches_; ++i, ++position_) {
    documents.clear();
    const int64_t begin = position_ * options_.batch_size;
    const int64_t end = std::min(begin + options_.batch_size, num_rows());
    for (int64_t row = begin; row < end; ++row) {
      const auto members = packing_.documents(order_[static_cast<size_t>(row)]);
      documents.insert(documents.end(), members.begin(), members.end());
    }
    step.micro_batches.push_back(make_micro_batch(examples_, documents));
    step.num_tokens += step.micro_batches.back().num_tokens();
    step.num_labels += step.micro_batches.back().num_labels();
  }
  step.epoch =
      static_cast<double>(epoch_) + static_cast<double>(position_) / static_cast<double>(micro_batches_);
  return step;
}

int64_t BatchStream::steps_per_epoch() const {
  return (micro_batches_ + options_.accumulation - 1) / options_.accumulation;
}

BatchCapacity BatchStream::capacity() const {
  return capacity_of(examples_, packing_, options_.batch_size);
}

Json BatchStream::state() const {
  Json state = Json::object();
  state.set("epoch", Json(epoch_));
  state.set("position", Json(position_));
  state.set("rows", Json(num_rows()));
  return state;
}

void BatchStream::restore(const Json& state, const std::string& where) {
  const int64_t epoch = state.at("epoch").as_int(), position = state.at("position").as_int();
  const int64_t rows = state.at("rows").as_int();
  if (rows != num_rows())
    fail(
        "{}: the run was saved with {} rows of training data but there are {} now; resume with the same "
        "dataset, "
        "max_length and packing",
        where, rows, num_rows());
  const bool at_step = position == micro_batches_ || position % options_.accumulation == 0;
  if (epoch < 0 || epoch > std::numeric_limits<uint32_t>::max() || position < 0 ||
      position > micro_batches_ || !at_step)
    fail(
        "{}: the saved place in the data (epoch {}, micro-batch {}) is none of this run's; resume with the "
        "same "
        "batch size and gradient_accumulation_steps",
        where, epoch, position);
  begin_epoch(epoch);
  position_ = position;
}

EvaluationBatches::EvaluationBatches(const Examples& examples, int64_t batch_size)
    : examples_(examples), batch_size_(batch_size) {
  SERVAL_CHECK(batch_size > 0);
  check_fits_int32(capacity());
}

std::optional<MicroBatch> EvaluationBatches::next() {
  if (position_ >= examples_.size()) return std::nullopt;
  const int64_t count = std::min(batch_size_, examples_.size() - position_);
  std::vector<int64_t> documents(static_cast<size_t>(count));
  std::iota(documents.begin(), documents.end(), position_);
  position_ += count;
  return make_micro_batch(examples_, documents);
}

BatchCapacity EvaluationBatches::capacity() const {
  return capacity_of(examples_, one_document_a_row(examples_.size()), batch_size_);
}

}  // namespace serval
