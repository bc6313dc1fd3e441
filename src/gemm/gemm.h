// Matrix products: C[m,n] = alpha * op(A)[m,k] op(B)[k,n] (+ bias[n]) (+ C) (+ low-rank terms). Matrices are
// row-major; a stride counts elements from one row of the stored matrix to the next. A transposed operand is
// stored [k,m] or [n,k]: the weight [out,in] of y = x W^T is B with b_transposed.
//
// Types (a, b, c): (f64, f64, f64), for references and gradient checks; (f32, f32, f32); (bf16, bf16, bf16);
// (bf16, bf16, f32). The bias is f32 or has the type of C or of A. Sums are kept in f32 (f64 for f64). The
// same arguments and thread count give the same bits on every call. C overlaps no input.
//
//   GemmArgs args{.m = tokens, .n = out, .k = in};
//   args.a = x, args.a_dtype = DType::bf16, args.a_stride = in;
//   args.b = weight, args.b_dtype = DType::bf16, args.b_stride = in, args.b_transposed = true;
//   args.c = y, args.c_dtype = DType::bf16, args.c_stride = out;
//   gemm(args);
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "gemm/gemm_term.h"
#include "tensor/device_kind.h"
#include "tensor/dtype.h"

namespace serval {

struct GemmArgs {
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  DType a_dtype = DType::f32;
  int64_t a_stride = 0;
  bool a_transposed = false;
  const void* b = nullptr;
  DType b_dtype = DType::f32;
  int64_t b_stride = 0;
  bool b_transposed = false;
  void* c = nullptr;
  DType c_dtype = DType::f32;
  int64_t c_stride = 0;
  double alpha = 1;
  bool accumulate = false;     // add to what C holds
  const void* bias = nullptr;  // n elements, added once
  DType bias_dtype = DType::f32;
  // Added to C; cheap where our own bf16 code takes them into the product's sums, else a product each.
  std::span<const GemmTerm> terms = {};
  bool terms_right_transposed = false;  // right is stored [columns, rank]
};

// Thread-safe. k = 0 leaves the bias, or zero.
void gemm(const GemmArgs& args);

// On a GPU: while on, a product of a new shape is timed with each algorithm that the library proposes, and
// may leave anything in C; the best one is kept. Nothing on the CPU.
void set_product_tuning(DeviceKind device, bool on);
// What was chosen, a line a shape, and back: a run that goes on takes the algorithms that it began with.
// Empty on the CPU.
std::string product_table(DeviceKind device);
void load_product_table(DeviceKind device, const std::string& text);

// The most memory that products have needed beside their operands so far, in bytes, over all threads.
int64_t gemm_scratch_bytes();

// Which code computes products of this processor, for `serval info`.
std::string gemm_info();

// The code that computes this product, for benches: "oneDNN brg:avx512_core_bf16".
std::string gemm_backend(const GemmArgs& args);

// For tests and benches: whose code computes products on the CPU, where both can.
enum class ProductCode : uint8_t { best, own, library };
void set_product_code(ProductCode code);

// Floating-point operations a second of a large product, measured now (less than 0.3 s).
double measured_product_rate(DType dtype);

}  // namespace serval
