#include "gemm/kernels.h"

#include <immintrin.h>
#include <string.h>

#ifndef SERVAL_ISA  // the plain build inside the library
#define SERVAL_ISA generic
#endif

namespace serval::SERVAL_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kMicroRows = 12;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kMicroRows = 6;
#else
constexpr int kVectorBytes = 16, kMicroRows = 6;
#endif
constexpr int kLanes = kVectorBytes / 4;
constexpr int kMicroColumns = 2 * kLanes;
static_assert(kBlockM % kMicroRows == 0 && kBlockN % kMicroColumns == 0);

using Floats = float __attribute__((vector_size(kVectorBytes)));
using LooseFloats =
    float __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));  // anywhere in memory
using Words = uint32_t __attribute__((vector_size(kVectorBytes)));
using Halves = uint16_t __attribute__((vector_size(kVectorBytes / 2)));

inline int64_t smaller(int64_t x, int64_t y) {
  return x < y ? x : y;
}

inline float widen(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &word, 4);
  return value;
}
inline float widen(float value) {
  return value;
}

// As BFloat16(float), which this file may not include.
inline uint16_t narrow(float value) {
  uint32_t word;
  memcpy(&word, &value, 4);
  if ((word & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((word >> 16) | 0x40u);
  return static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
}

inline float element(const void* data, Element type, int64_t index) {
  return type == Element::f32 ? static_cast<const float*>(data)[index]
                              : widen(static_cast<const uint16_t*>(data)[index]);
}

// The last step for one row of sums: C = alpha * sum + bias + C.
void write_row(const KernelArgs& args, int64_t row, int64_t n0, int64_t n1, const float* sums) {
  for (int64_t n = n0; n < n1; ++n) {
    float value = args.alpha * sums[n - n0];
    if (args.bias != nullptr) value += element(args.bias, args.bias_type, n);
    const int64_t index = row * args.c_stride + n;
    if (args.accumulate) value += element(args.c, args.out, index);
    if (args.out == Element::f32)
      static_cast<float*>(args.c)[index] = value;
    else
      static_cast<uint16_t*>(args.c)[index] = narrow(value);
  }
}

// ---- few rows
// -----------------------------------------------------------------------------------------------

inline float sum_of(Floats vector) {
  float values[kLanes];
  memcpy(values, &vector, sizeof(values));
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) values[i] += values[i + width];
  return values[0];
}

// One vector of a row: what a single step of a dot product takes in.
struct F32Step {
  using Value = float;
  using Vector = Floats;
  static constexpr int kElements = kLanes;
  static Vector load(const float* data) { return *reinterpret_cast<const LooseFloats*>(data); }
  static void add(Floats& sum, Vector x, Vector y) { sum += x * y; }
};

#if defined(__AVX512BF16__)
struct Bf16Step {
  using Value = uint16_t;
  using Vector = __m512bh;
  static constexpr int kElements = 32;
  static Vector load(const uint16_t* data) {
    Vector vector;
    memcpy(&vector, data, sizeof(vector));
    return vector;
  }
  static void add(Floats& sum, Vector x, Vector y) { sum = (Floats)_mm512_dpbf16_ps((__m512)sum, x, y); }
};
#else
struct Bf16Step {
  using Value = uint16_t;
  using Vector = Floats;
  static constexpr int kElements = kLanes;
  static Vector load(const uint16_t* data) {
    Halves halves;
    memcpy(&halves, data, sizeof(halves));
    return (Floats)(__builtin_convertvector(halves, Words) << 16);
  }
  static void add(Floats& sum, Vector x, Vector y) { sum += x * y; }
};
#endif

// The products of kRows rows of A with one row of B. B is read as one stream, which memory serves about 1.5
// times faster than several; kUnroll vectors at a time keep enough sums going.
template <class Step, int kRows, int kUnroll>
void dot_rows(const KernelArgs& args, int64_t n, float* sums) {
  using Value = typename Step::Value;
  constexpr int kElements = Step::kElements;
  const Value* a = static_cast<const Value*>(args.a);
  const Value* b = static_cast<const Value*>(args.b) + n * args.b_stride;
  Floats total[kRows][kUnroll] = {};
  int64_t k = 0;
  for (; k + kUnroll * kElements <= args.k; k += kUnroll * kElements) {
#pragma GCC unroll 4
    for (int part = 0; part < kUnroll; ++part) {
      const Value* x = a + k + part * kElements;
      const Value* y = b + k + part * kElements;
      _mm_prefetch(reinterpret_cast<const char*>(y) + 4096, _MM_HINT_T0);
      const typename Step::Vector right = Step::load(y);
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row)
        Step::add(total[row][part], Step::load(x + row * args.a_stride), right);
    }
  }
  while (k < args.k) {
    const int64_t count = smaller(kElements, args.k - k);
    const size_t bytes = static_cast<size_t>(count) * sizeof(Value);
    Value y[kElements] = {};
    memcpy(y, b + k, bytes);
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      Value x[kElements] = {};
      memcpy(x, a + row * args.a_stride + k, bytes);
      Step::add(total[row][0], Step::load(x), Step::load(y));
    }
    k += count;
  }
  for (int row = 0; row < kRows; ++row) {
    for (int part = 1; part < kUnroll; ++part) total[row][0] += total[row][part];
    sums[row] = sum_of(total[row][0]);
  }
}

template <class Step, int kRows>
void few_rows(const KernelArgs& args, int64_t n0, int64_t n1) {
  constexpr int kUnroll = kRows == 1 ? 4 : kRows <= 3 ? 2 : 1;
  float sums[kRows];
  for (int64_t n = n0; n < n1; ++n) {
    dot_rows<Step, kRows, kUnroll>(args, n, sums);
    for (int row = 0; row < kRows; ++row) write_row(args, row, n, n + 1, sums + row);
  }
}

template <class Step>
void few_rows_of(const KernelArgs& args, int64_t n0, int64_t n1) {
  static_assert(kFewRows == 8);
  switch (args.m) {
    case 1:
      return few_rows<Step, 1>(args, n0, n1);
    case 2:
      return few_rows<Step, 2>(args, n0, n1);
    case 3:
      return few_rows<Step, 3>(args, n0, n1);
    case 4:
      return few_rows<Step, 4>(args, n0, n1);
    case 5:
      return few_rows<Step, 5>(args, n0, n1);
    case 6:
      return few_rows<Step, 6>(args, n0, n1);
    case 7:
      return few_rows<Step, 7>(args, n0, n1);
    default:
      return few_rows<Step, 8>(args, n0, n1);
  }
}

// ---- blocks
// -------------------------------------------------------------------------------------------------

// Copies `count` lines of length k into panels of `width` lines: panel[k][line], as f32, missing lines zero.
// Line i is a row of the stored matrix, or a column of it where `across`.
template <class Value>
void pack(const Value* data, int64_t stride, bool across, int64_t count, int64_t length, int width,
          float* panels) {
  for (int64_t first = 0; first < count; first += width) {
    const int64_t lines = smaller(width, count - first);
    if (lines < width) memset(panels, 0, static_cast<size_t>(width * length) * 4);
    if (across) {
      for (int64_t k = 0; k < length; ++k)
        for (int64_t line = 0; line < lines; ++line)
          panels[k * width + line] = widen(data[k * stride + first + line]);
    } else {
      for (int64_t line = 0; line < lines; ++line)
        for (int64_t k = 0; k < length; ++k)
          panels[k * width + line] = widen(data[(first + line) * stride + k]);
    }
    panels += width * length;
  }
}

void pack_operand(const void* data, Element type, int64_t stride, bool across, int64_t line, int64_t k,
                  int64_t count, int64_t length, int width, float* panels) {
  const int64_t start = across ? k * stride + line : line * stride + k;
  if (type == Element::f32)
    pack(static_cast<const float*>(data) + start, stride, across, count, length, width, panels);
  else
    pack(static_cast<const uint16_t*>(data) + start, stride, across, count, length, width, panels);
}

// One panel of A times one panel of B, added to (or, at first, stored in) a piece of the block's sums. The
// sums of the loop stay in registers because nothing takes their address.
void multiply_panels(const float* a, const float* b, int64_t length, bool first, float* sums) {
  Floats total[kMicroRows][2];
#pragma GCC unroll 16
  for (int row = 0; row < kMicroRows; ++row) total[row][0] = total[row][1] = Floats{};
  for (int64_t k = 0; k < length; ++k) {
    const auto* line = reinterpret_cast<const LooseFloats*>(b + k * kMicroColumns);
    const Floats right0 = line[0], right1 = line[1];
#pragma GCC unroll 16
    for (int row = 0; row < kMicroRows; ++row) {
      const float left = a[k * kMicroRows + row];
      total[row][0] += left * right0;
      total[row][1] += left * right1;
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kMicroRows; ++row) {
    auto* target = reinterpret_cast<LooseFloats*>(sums + row * kBlockN);
    target[0] = first ? total[row][0] : target[0] + total[row][0];
    target[1] = first ? total[row][1] : target[1] + total[row][1];
  }
}

}  // namespace

void gemm_few_rows(const KernelArgs& args, int64_t n0, int64_t n1) {
  if (args.in == Element::f32) return few_rows_of<F32Step>(args, n0, n1);
  few_rows_of<Bf16Step>(args, n0, n1);
}

void gemm_block(const KernelArgs& args, int64_t m0, int64_t m1, int64_t n0, int64_t n1, void* scratch) {
  float* packed_a = static_cast<float*>(scratch);
  float* packed_b = packed_a + kBlockM * kBlockK;
  float* sums = packed_b + kBlockK * kBlockN;
  for (int64_t m = m0; m < m1; m += kBlockM) {
    const int64_t rows = smaller(kBlockM, m1 - m);
    for (int64_t n = n0; n < n1; n += kBlockN) {
      const int64_t columns = smaller(kBlockN, n1 - n);
      for (int64_t k = 0; k < args.k; k += kBlockK) {
        const int64_t length = smaller(kBlockK, args.k - k);
        pack_operand(args.a, args.in, args.a_stride, args.a_transposed, m, k, rows, length, kMicroRows,
                     packed_a);
        pack_operand(args.b, args.in, args.b_stride, !args.b_transposed, n, k, columns, length, kMicroColumns,
                     packed_b);
        for (int64_t column = 0; column < columns; column += kMicroColumns)
          for (int64_t row = 0; row < rows; row += kMicroRows)
            multiply_panels(packed_a + row * length, packed_b + column * length, length, k == 0,
                            sums + row * kBlockN + column);
      }
      for (int64_t row = 0; row < rows; ++row) write_row(args, m + row, n, n + columns, sums + row * kBlockN);
    }
  }
}

}  // namespace serval::SERVAL_ISA
