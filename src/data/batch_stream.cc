#include "data/batch_stream.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <queue>

#include "base/error.h"
#include "base/philox.h"

namespace serval {
namespace {

constexpr const char* kFeistelOrder = "feistel";
constexpr int64_t kForgetBytes = int64_t{64} << 20;
constexpr int64_t kPageCluster = int64_t{64} << 10;  // what the system maps where a document is looked at

// Rows of documents: packed ones, or one document each.
struct RowTable {
  const Packing* packing = nullptr;
  int64_t documents = 0, group_size = 1;

  int64_t size() const { return packing == nullptr ? documents / group_size : packing->num_bins(); }
  template <class F>
  void each_document(int64_t row, F&& use) const {
    if (packing != nullptr)
      for (const int64_t document : packing->documents(row)) use(document);
    else
      for (int64_t i = 0; i < group_size; ++i) use(row * group_size + i);
  }
};

Packing pack_examples(const Examples& examples, const BatchOptions& options) {
  if (options.max_length < 1) fail_usage("packing needs max_length, the size of a packed row in tokens");
  Packing packing = pack_best_fit(
      examples.size(), [&](int64_t document) { return examples.length(document); }, options.max_length,
      options.packing_window, options.directory);
  examples.forget();
  return packing;
}

// The sum of the largest few of many numbers.
class LargestSum {
 public:
  explicit LargestSum(int64_t count) : count_(static_cast<size_t>(count)) {}
  void add(int64_t value) {
    largest_.push(value);
    if (largest_.size() > count_) largest_.pop();
  }
  int64_t sum() {
    int64_t sum = 0;
    for (; !largest_.empty(); largest_.pop()) sum += largest_.top();
    return sum;
  }

 private:
  size_t count_;
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> largest_;
};

BatchCapacity capacity_of(const Examples& examples, const RowTable& rows, int64_t batch_size) {
  LargestSum tokens(batch_size), documents(batch_size), labels(batch_size);
  int64_t longest = 0;
  for (int64_t row = 0; row < rows.size(); ++row) {
    int64_t row_tokens = 0, row_documents = 0, row_labels = 0;
    rows.each_document(row, [&](int64_t document) {
      const int64_t length = examples.length(document);
      row_tokens += length;
      longest = std::max(longest, length);
      row_labels += examples.labels(document);
      ++row_documents;
    });
    tokens.add(row_tokens);
    documents.add(row_documents);
    labels.add(row_labels);
  }
  examples.forget();
  return {.tokens = tokens.sum(), .documents = documents.sum(), .labels = labels.sum(), .longest = longest};
}

void check_fits_int32(const BatchCapacity& capacity) {
  if (capacity.tokens > std::numeric_limits<int32_t>::max())
    fail_usage("a micro-batch could hold {} tokens, more than {}; lower the batch size or max_length",
               capacity.tokens, std::numeric_limits<int32_t>::max());
}

}  // namespace

double MicroBatch::label_weight() const {
  if (weights.empty()) return static_cast<double>(num_labels());
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

MicroBatch make_micro_batch(const Examples& examples, std::span<const int64_t> documents) {
  MicroBatch result;
  result.documents.assign(documents.begin(), documents.end());
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
      if (examples.weighted()) result.weights.push_back(examples.weight(document, token));
    }
    result.cu_seqlens.push_back(begin + length);
  }
  return result;
}

BatchStream::BatchStream(Examples examples, const BatchOptions& options)
    : examples_(std::move(examples)), options_(options) {
  SERVAL_CHECK(options.batch_size > 0 && options.accumulation > 0);
  SERVAL_CHECK(options.group_size > 0 && examples_.size() % options.group_size == 0 &&
               (options.group_size == 1 || !options.packing));
  if (examples_.size() == 0) fail("there is no example to train on");
  if (options.packing) packing_ = pack_examples(examples_, options);
  capacity_ =
      capacity_of(examples_, {options.packing ? &packing_ : nullptr, examples_.size(), options.group_size},
                  options.batch_size);
  packing_.forget();
  check_fits_int32(capacity_);
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
  order_ = options_.shuffle
               ? Permutation(num_rows(), philox_key(options_.seed, "data", static_cast<uint32_t>(epoch), 0))
               : Permutation(num_rows());
}

StepBatch BatchStream::next() {
  if (position_ == micro_batches_) begin_epoch(epoch_ + 1);
  StepBatch step;
  std::vector<int64_t> documents;
  for (int64_t i = 0; i < options_.accumulation && position_ < micro_batches_; ++i, ++position_) {
    documents.clear();
    const int64_t begin = position_ * options_.batch_size;
    const int64_t end = std::min(begin + options_.batch_size, num_rows());
    const RowTable rows{options_.packing ? &packing_ : nullptr, examples_.size(), options_.group_size};
    for (int64_t row = begin; row < end; ++row)
      rows.each_document(order_(row), [&](int64_t document) { documents.push_back(document); });
    step.micro_batches.push_back(make_micro_batch(examples_, documents));
    step.num_tokens += step.micro_batches.back().num_tokens();
    step.num_labels += step.micro_batches.back().num_labels();
    touched_bytes_ +=
        static_cast<int64_t>(documents.size()) * kPageCluster + 4 * step.micro_batches.back().num_tokens();
  }
  if (touched_bytes_ > kForgetBytes) {
    examples_.forget();
    packing_.forget();
    touched_bytes_ = 0;
  }
  step.epoch =
      static_cast<double>(epoch_) + static_cast<double>(position_) / static_cast<double>(micro_batches_);
  return step;
}

int64_t BatchStream::steps_per_epoch() const {
  return (micro_batches_ + options_.accumulation - 1) / options_.accumulation;
}

int64_t BatchStream::memory_bytes() const {
  const int64_t mapped = std::min(kForgetBytes, 5 * examples_.num_tokens() + 8 * examples_.size());
  const int64_t tables = packing_.memory_bytes() + 4 * std::min(num_rows(), Permutation::kTableLimit);
  return examples_.memory_bytes() + mapped + tables;
}

Json BatchStream::state() const {
  Json state = Json::object();
  state.set("epoch", Json(epoch_));
  state.set("position", Json(position_));
  state.set("rows", Json(num_rows()));
  if (num_rows() > Permutation::kTableLimit) state.set("order", Json(kFeistelOrder));
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
  if (rows > Permutation::kTableLimit && !state.contains("order"))
    fail(
        "{}: was saved by an earlier Serval, which put more than {} rows in another order; the run cannot be "
        "continued "
        "exactly: start from its adapter (--adapter) or model instead",
        where, Permutation::kTableLimit);
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
  return capacity_of(examples_, {nullptr, examples_.size()}, batch_size_);
}

}  // namespace serval
