// A pseudo-random order of the numbers 0 to count - 1, a pure function of its key. A few numbers are
// shuffled in a table (Fisher-Yates); many are permuted one by one by a Feistel network whose values outside
// the range are mapped again until they fall inside (Black and Rogaway, "Ciphers with arbitrary finite
// domains", CT-RSA 2002), so memory does not grow with the count.
//
//   const Permutation order(rows, philox_key(seed, "data", epoch, 0));
//   for (int64_t i = 0; i < rows; ++i) use(order(i));
#pragma once
#include <cstdint>
#include <vector>

#include "base/philox.h"

namespace serval {

class Permutation {
 public:
  // Up to here the table is used.
  static constexpr int64_t kTableLimit = 65536;

  Permutation() = default;                    // of nothing
  explicit Permutation(int64_t count);        // each number stays where it is
  Permutation(int64_t count, PhiloxKey key);  // 0 <= count < 2^62
  int64_t operator()(int64_t index) const;    // index in [0, count)
  int64_t size() const { return count_; }

 private:
  static constexpr int kRounds = 8;
  uint64_t encrypt(uint64_t value) const;

  int64_t count_ = 0;
  std::vector<uint32_t> table_;
  int half_bits_ = 0;  // 0: no network
  uint64_t round_keys_[kRounds] = {};
};

}  // namespace serval
