// Random words on the CPU, as base/philox.h computes them, many blocks at once.
#pragma once
#include "base/philox.h"
#include "tensor/dtype.h"

namespace serval {

constexpr int64_t kPhiloxBlocks = 16;

// The words of 16 Philox blocks from `first` on, in order.
SERVAL_INLINE void philox_words(const PhiloxKey& key, uint64_t first, uint32_t words[4 * kPhiloxBlocks]) {
  constexpr int64_t n = kPhiloxBlocks;
  uint32_t c0[n], c1[n], c2[n], c3[n], k0 = key.key[0], k1 = key.key[1];
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t index = first + static_cast<uint64_t>(i);
    c0[i] = static_cast<uint32_t>(index), c1[i] = static_cast<uint32_t>(index >> 32);
    c2[i] = key.counter_high[0], c3[i] = key.counter_high[1];
  }
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0[i], p1 = uint64_t{0xCD9E8D57u} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = static_cast<uint32_t>(p1);
      c3[i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int64_t i = 0; i < n; ++i)
    words[4 * i] = c0[i], words[4 * i + 1] = c1[i], words[4 * i + 2] = c2[i], words[4 * i + 3] = c3[i];
}

}  // namespace serval
