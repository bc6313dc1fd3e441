// Philox4x32-10: a counter-based random generator (Salmon et al., "Parallel random numbers: as easy as 1, 2,
// 3", SC 2011). A random number is a pure function of (seed, name, step, micro_step, element), so it does not
// change when a program is rewritten, recomputed or split over threads. Same bits on every device.
//
//   PhiloxKey key = philox_key(seed, "model.layers.3.mlp.down_proj", step, micro_step);
//   float u = philox_uniform(key, element);   // in [0, 1), 24 bits
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace serval {

struct PhiloxKey {
  uint32_t key[2];
  uint32_t counter_high[2];  // words 2 and 3 of the counter; words 0 and 1 hold element / 4
};

// 64-bit FNV-1a: stable across machines and versions.
constexpr uint64_t stable_hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

__attribute__((always_inline)) constexpr PhiloxKey philox_key(uint64_t seed, uint64_t name_hash,
                                                              uint32_t step, uint32_t micro_step) {
  const uint64_t mixed = (seed + 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull ^ name_hash;
  return {{static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32)}, {step, micro_step}};
}
constexpr PhiloxKey philox_key(uint64_t seed, std::string_view name, uint32_t step, uint32_t micro_step) {
  return philox_key(seed, stable_hash(name), step, micro_step);
}

constexpr std::array<uint32_t, 4> philox_block(const PhiloxKey& key, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = key.counter_high[0], c3 = key.counter_high[1], k0 = key.key[0], k1 = key.key[1];
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0,
                   n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

constexpr uint32_t philox_u32(const PhiloxKey& key, uint64_t element) {
  return philox_block(key, element / 4)[element % 4];
}
constexpr float philox_uniform(const PhiloxKey& key, uint64_t element) {
  return static_cast<float>(philox_u32(key, element) >> 8) * (1.0f / 16777216.0f);
}
// One standard normal number (Box-Muller on the two words of the element's pair).
double philox_normal(const PhiloxKey& key, uint64_t element);

}  // namespace serval
