// The 8-bit numbers that moments are stored as: the dynamic map of Dettmers et al., "8-bit Optimizers via
// Block-wise Quantization" (ICLR 2022), as bitsandbytes lays it out. A code stands for a value of [-1, 1]
// (signed) or [0, 1]: zero, one, and in the decade (10^(e-1), 10^e] for e = -6 ... 0 the middles of 2^(e+6)
// (unsigned: twice as many) equal parts. Values ascend with their codes.
//
//   const uint8_t code = nearest_code(kSignedMap, x / absmax);
//   float back = kSignedMap.values[code] * absmax;
//
// Light enough for device compilers.
#pragma once
#include "tensor/dtype.h"

namespace serval {

struct DynamicMap {
  // The upper 16 bits of a float, counted from those of 2^-23 on, up to those of 1.
  static constexpr uint32_t kFirstKey = (127u - 23u) << 7, kKeys = 23 * 128 + 1;
  static constexpr int kZero = 127;  // the code of 0 in the signed map; magnitudes count from it

  bool is_signed;
  float values[256];
  // Halfway from magnitude n to the next one.
  float borders[256];
  // The magnitude nearest to the smallest number of a key; none holds more than one border.
  uint8_t first[kKeys];
};

SERVAL_INLINE constexpr uint32_t dynamic_map_key(float magnitude) {
  const uint32_t bits = (__builtin_bit_cast(uint32_t, magnitude) & 0x7fffffffu) >> 16;
  const uint32_t key = bits > DynamicMap::kFirstKey ? bits - DynamicMap::kFirstKey : 0;
  return key < DynamicMap::kKeys ? key : DynamicMap::kKeys - 1;  // NaN too stays inside
}
// `magnitude` is not negative; anything above 1 is as 1.
SERVAL_INLINE constexpr uint32_t nearest_magnitude(const float* borders, const uint8_t* first,
                                                   float magnitude) {
  const uint32_t n = first[dynamic_map_key(magnitude)];
  return n + (magnitude > borders[n] ? 1u : 0u);
}
// The signed map has 1 but not -1.
SERVAL_INLINE constexpr uint32_t signed_code(uint32_t magnitude, bool negative) {
  if (!negative) return DynamicMap::kZero + magnitude;
  return magnitude < DynamicMap::kZero ? DynamicMap::kZero - magnitude : 0u;
}
SERVAL_INLINE constexpr uint8_t nearest_code(const DynamicMap& map, float x) {
  const uint32_t n = nearest_magnitude(map.borders, map.first, x < 0 ? -x : x);
  return static_cast<uint8_t>(map.is_signed ? signed_code(n, x < 0) : n);
}

constexpr DynamicMap make_dynamic_map(bool is_signed) {
  DynamicMap map{.is_signed = is_signed, .values = {}, .borders = {}, .first = {}};
  constexpr float kPowers[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  float magnitudes[256] = {};
  int count = 1;
  for (int decade = 0; decade < 7; ++decade) {
    const int parts = is_signed ? 1 << decade : 2 << decade;
    const float step = 0.9f / static_cast<float>(parts);
    const auto edge = [&](int i) {  // from the nearer end, rounded once
      return static_cast<float>(i < (parts + 1) / 2 ? 0.1f + static_cast<double>(step) * i
                                                    : 1 - static_cast<double>(step) * (parts - i));
    };
    for (int i = 0; i < parts; ++i) magnitudes[count++] = kPowers[decade] * ((edge(i) + edge(i + 1)) / 2);
  }
  magnitudes[count++] = 1;
  for (int n = 0; n < 256; ++n) map.borders[n] = 2;  // never reached
  for (int n = 0; n + 1 < count; ++n) map.borders[n] = (magnitudes[n] + magnitudes[n + 1]) / 2;
  const int zero = is_signed ? DynamicMap::kZero : 0;
  for (int n = 0; n < count; ++n) {
    map.values[zero + n] = magnitudes[n];
    if (n > 0 && n <= zero) map.values[zero - n] = -magnitudes[n];
  }
  int n = 0;
  for (uint32_t key = 1; key < DynamicMap::kKeys; ++key) {
    const float smallest = __builtin_bit_cast(float, (key + DynamicMap::kFirstKey) << 16);
    while (smallest > map.borders[n]) ++n;
    map.first[key] = static_cast<uint8_t>(n);
  }
  return map;
}

inline constexpr DynamicMap kSignedMap = make_dynamic_map(true), kUnsignedMap = make_dynamic_map(false);

constexpr bool one_border_a_key(const DynamicMap& map) {
  for (uint32_t key = 1; key < DynamicMap::kKeys; ++key)
    if (map.first[key] > map.first[key - 1] + 1) return false;
  return true;
}
static_assert(one_border_a_key(kSignedMap) && one_border_a_key(kUnsignedMap));

}  // namespace serval
