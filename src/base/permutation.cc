#include "base/permutation.h"

#include <bit>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace serval {
namespace {

// The finaliser of MurmurHash3: every bit of the input moves every bit of the output.
uint64_t mixed(uint64_t value) {
  value = (value ^ value >> 33) * 0xff51afd7ed558ccdull;
  value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ull;
  return value ^ value >> 33;
}

}  // namespace

Permutation::Permutation(int64_t count) : count_(count) {
  SERVAL_CHECK(count >= 0);
}

Permutation::Permutation(int64_t count, PhiloxKey key) : count_(count) {
  SERVAL_CHECK(count >= 0 && count < int64_t{1} << 62);
  if (count <= kTableLimit) {
    table_.resize(static_cast<size_t>(count));
    std::iota(table_.begin(), table_.end(), uint32_t{0});
    for (size_t i = table_.size(); i-- > 1;) {
      const auto words = philox_block(key, i);
      const uint64_t random = uint64_t{words[0]} << 32 | words[1];
      std::swap(table_[i], table_[random % (i + 1)]);
    }
    return;
  }
  half_bits_ = (std::bit_width(static_cast<uint64_t>(count - 1)) + 1) / 2;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const auto words = philox_block(key, round);
    round_keys_[round] = uint64_t{words[0]} << 32 | words[1];
  }
}

uint64_t Permutation::encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (const uint64_t key : round_keys_) {
    const uint64_t next = left ^ (mixed(right ^ key) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t index) const {
  SERVAL_CHECK(index >= 0 && index < count_);
  if (!table_.empty()) return table_[static_cast<size_t>(index)];
  if (half_bits_ == 0) return index;
  // The domain has less than four times as many values, so this ends after a few rounds.
  uint64_t value = encrypt(static_cast<uint64_t>(index));
  while (value >= static_cast<uint64_t>(count_)) value = encrypt(value);
  return static_cast<int64_t>(value);
}

}  // namespace serval
