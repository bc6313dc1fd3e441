// The number types that tensors are made of.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace serval {

enum class DType : uint8_t { f64, f32, bf16, f16, i64, i32, u8 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}
constexpr bool is_floating(DType dtype) {
  return dtype == DType::f64 || dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
}
const char* name_of(DType dtype);                             // "bf16"
std::optional<DType> dtype_from_name(std::string_view name);  // "bf16", "bfloat16", "float32", ...

// Kernels are compiled once per instruction set; an inline function that they share must leave no copy of its
// own.
#define SERVAL_INLINE inline __attribute__((always_inline))

// bfloat16: the upper half of an f32, rounded to nearest, ties to even.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  SERVAL_INLINE explicit BFloat16(float value) {
    const uint32_t u = __builtin_bit_cast(uint32_t, value);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? static_cast<uint16_t>((u >> 16) | 0x40u)
                                           : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  SERVAL_INLINE explicit operator float() const {
    return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
  }
};
static_assert(sizeof(BFloat16) == 2);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);

// Converts `count` elements; both sides may be f64, f32, bf16 or f16.
void convert_elements(const void* source, DType source_dtype, void* target, DType target_dtype,
                      int64_t count);

}  // namespace serval
