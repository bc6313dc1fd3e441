#include "tensor/dtype.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace serval {

const char* name_of(DType dtype) {
  static constexpr const char* names[] = {"f64", "f32", "bf16", "f16", "i64", "i32", "u8"};
  return names[static_cast<int>(dtype)];
}

std::optional<DType> dtype_from_name(std::string_view name) {
  if (name == "f64" || name == "float64") return DType::f64;
  if (name == "f32" || name == "float32" || name == "fp32") return DType::f32;
  if (name == "bf16" || name == "bfloat16") return DType::bf16;
  if (name == "f16" || name == "float16" || name == "fp16") return DType::f16;
  if (name == "i64" || name == "int64") return DType::i64;
  if (name == "i32" || name == "int32") return DType::i32;
  if (name == "u8" || name == "uint8") return DType::u8;
  return std::nullopt;
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const int exponent = (bits >> 10) & 0x1f;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 0x7f800000u : static_cast<uint32_t>(exponent + 112) << 23;
  return std::bit_cast<float>(sign | wide | (mantissa << 13));
}

uint16_t float_to_half(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal in half: round the multiple of 2^-24, ties to even
    const float scaled = std::nearbyint(std::bit_cast<float>(magnitude) * 16777216.0f);
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(scaled));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

namespace {

double load(const void* source, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::f64:
      return static_cast<const double*>(source)[i];
    case DType::f32:
      return static_cast<const float*>(source)[i];
    case DType::bf16:
      return float(static_cast<const BFloat16*>(source)[i]);
    case DType::f16:
      return half_to_float(static_cast<const uint16_t*>(source)[i]);
    default:
      break;
  }
  fail("elements of type {} cannot be converted to another type", name_of(dtype));
}

void store(void* target, DType dtype, int64_t i, double value) {
  switch (dtype) {
    case DType::f64:
      static_cast<double*>(target)[i] = value;
      return;
    case DType::f32:
      static_cast<float*>(target)[i] = static_cast<float>(value);
      return;
    case DType::bf16:
      static_cast<BFloat16*>(target)[i] = BFloat16(static_cast<float>(value));
      return;
    case DType::f16:
      static_cast<uint16_t*>(target)[i] = float_to_half(static_cast<float>(value));
      return;
    default:
      break;
  }
  fail("elements cannot be converted to the type {}", name_of(dtype));
}

}  // namespace

void convert_elements(const void* source, DType source_dtype, void* target, DType target_dtype,
                      int64_t count) {
  if (source_dtype == target_dtype) {
    std::memcpy(target, source, static_cast<size_t>(count * size_of(source_dtype)));
    return;
  }
  if (source_dtype == DType::bf16 && target_dtype == DType::f32) {
    const auto* in = static_cast<const BFloat16*>(source);
    auto* out = static_cast<float*>(target);
    for (int64_t i = 0; i < count; ++i) out[i] = float(in[i]);
    return;
  }
  if (source_dtype == DType::f32 && target_dtype == DType::bf16) {
    const auto* in = static_cast<const float*>(source);
    auto* out = static_cast<BFloat16*>(target);
    for (int64_t i = 0; i < count; ++i) out[i] = BFloat16(in[i]);
    return;
  }
  for (int64_t i = 0; i < count; ++i) store(target, target_dtype, i, load(source, source_dtype, i));
}

}  // namespace serval
