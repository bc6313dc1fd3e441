#include "train/bench_data.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "base/philox.h"

namespace serval {
namespace {

constexpr int64_t kMostNumbers = int64_t{16} << 20;
constexpr double kMedianLength = 400;

int64_t largest_slice(const ParameterTable& table) {
  int64_t largest = 1;
  for (const Parameter& parameter : table.all())
    for (const ParameterSlice& slice : parameter.slices) largest = std::max(largest, slice.shape.elements());
  return largest;
}

}  // namespace

NormalBlock::NormalBlock(int64_t largest_tensor, double scale)
    : size_(std::clamp<int64_t>(largest_tensor, 1, kMostNumbers)) {
  std::vector<std::byte>& numbers = blocks_[DType::f32];
  numbers.resize(static_cast<size_t>(size_ * size_of(DType::f32)));
  auto* values = reinterpret_cast<float*>(numbers.data());
  const PhiloxKey key = philox_key(1, "numbers", 0, 0);
  parallel_for(0, size_, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      values[i] = static_cast<float>(scale * philox_normal(key, static_cast<uint64_t>(i)));
  });
}

const std::vector<std::byte>& NormalBlock::block(DType dtype) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::byte>& numbers = blocks_[dtype];
  if (numbers.empty()) {
    numbers.resize(static_cast<size_t>(size_ * size_of(dtype)));
    const auto* values = reinterpret_cast<const float*>(blocks_.at(DType::f32).data());
    parallel_for(0, size_, 4096, [&](int64_t begin, int64_t end) {
      convert_elements(values + begin, DType::f32, numbers.data() + begin * size_of(dtype), dtype,
                       end - begin);
    });
  }
  return numbers;
}

void NormalBlock::read(const std::string& name, int64_t first, int64_t count, void* target,
                       DType dtype) const {
  const std::vector<std::byte>& numbers = block(dtype);
  const int64_t width = size_of(dtype);
  const auto start = static_cast<int64_t>(stable_hash(name) % static_cast<uint64_t>(size_));
  parallel_for(0, count, int64_t{1} << 18, [&](int64_t begin, int64_t end) {
    auto* to = static_cast<std::byte*>(target) + begin * width;
    int64_t from = (start + first + begin) % size_, left = end - begin;
    while (left > 0) {
      const int64_t part = std::min(left, size_ - from);
      std::memcpy(to, numbers.data() + from * width, static_cast<size_t>(part * width));
      to += part * width;
      left -= part;
      from = 0;
    }
  });
}

RandomWeights::RandomWeights(const ParameterTable& table, double initializer_range)
    : block_(largest_slice(table), initializer_range) {
  for (const Parameter& parameter : table.all())
    for (const ParameterSlice& slice : parameter.slices) slices_.emplace(slice.name, &slice);
}

std::optional<Shape> RandomWeights::shape(const std::string& name) const {
  const auto it = slices_.find(name);
  if (it == slices_.end()) return std::nullopt;
  return it->second->shape;
}

void RandomWeights::read(const std::string& name, void* target, DType dtype) const {
  read_part(name, 0, slices_.at(name)->shape.elements(), target, dtype);
}

bool RandomWeights::read_part(const std::string& name, int64_t first, int64_t count, void* target,
                              DType dtype) const {
  const ParameterSlice& slice = *slices_.at(name);
  if (slice.init == Init::normal || slice.init == Init::lora_a) {
    block_.read(name, first, count, target, dtype);
    return true;
  }
  const std::vector<float> values(static_cast<size_t>(count), slice.init == Init::ones ? 1.0f : 0.0f);
  convert_elements(values.data(), DType::f32, target, dtype, count);
  return true;
}

Examples random_documents(int64_t rows, int64_t max_length, bool packed, int64_t vocab_size) {
  SERVAL_CHECK(rows > 0 && max_length > 1 && vocab_size > 0);
  const PhiloxKey ids = philox_key(1, "ids", 0, 0), lengths = philox_key(1, "lengths", 0, 0);
  Examples examples;
  std::vector<int32_t> document;
  // A little more than the rows hold: packing leaves gaps.
  const int64_t wanted = packed ? rows * max_length + rows * max_length / 50 + max_length : rows * max_length;
  for (int64_t index = 0; examples.num_tokens() < wanted; ++index) {
    int64_t length = max_length;
    if (packed) {
      const double drawn = kMedianLength * std::exp(philox_normal(lengths, static_cast<uint64_t>(index)));
      length = std::clamp(static_cast<int64_t>(std::lround(drawn)), int64_t{2}, max_length);
    }
    document.resize(static_cast<size_t>(length));
    const auto first = static_cast<uint64_t>(examples.num_tokens());
    for (size_t t = 0; t < document.size(); ++t)
      document[t] = static_cast<int32_t>(philox_u32(ids, first + t) % static_cast<uint32_t>(vocab_size));
    examples.add(document, std::vector<bool>(document.size(), true));
  }
  return examples;
}

}  // namespace serval
