// Shorthand for products of operands: a Matrix is an operand's memory seen as [rows, columns], or its
// transpose.
#pragma once
#include "gemm/gemm.h"
#include "gemm/gemm_cuda.h"
#include "tensor/operand.h"

namespace serval {

struct Matrix {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, columns = 0, stride = 0;
  bool transposed = false;

  static Matrix of(const Operand& x) { return {x.data, x.dtype, x.rows, x.row_size, x.row_stride, false}; }
  Operand operand() const { return {data, dtype, stride, rows, columns}; }  // of an untransposed one
  Matrix t() const { return {data, dtype, columns, rows, stride, !transposed}; }
  // Only untransposed matrices are cut.
  Matrix row_range(int64_t begin, int64_t count) const {
    return {static_cast<char*>(data) + begin * stride * size_of(dtype), dtype, count, columns, stride, false};
  }
  Matrix column_range(int64_t begin, int64_t count) const {
    return {static_cast<char*>(data) + begin * size_of(dtype), dtype, rows, count, stride, false};
  }
};

inline GemmArgs product(const Matrix& a, const Matrix& b, const Matrix& c, double alpha, bool accumulate,
                        const Operand* bias) {
  GemmArgs args{.m = c.rows, .n = c.columns, .k = a.columns};
  args.a = a.data, args.a_dtype = a.dtype, args.a_stride = a.stride, args.a_transposed = a.transposed;
  args.b = b.data, args.b_dtype = b.dtype, args.b_stride = b.stride, args.b_transposed = b.transposed;
  args.c = c.data, args.c_dtype = c.dtype, args.c_stride = c.stride;
  args.alpha = alpha, args.accumulate = accumulate;
  if (bias != nullptr && *bias) args.bias = bias->data, args.bias_dtype = bias->dtype;
  return args;
}

// left right for the columns of c from `column` on.
inline GemmTerm low_rank_term(const Matrix& left, const Matrix& right, int64_t column) {
  return {left.data, left.stride, right.data, right.stride, column, right.columns, left.columns};
}
inline void multiply_with_terms(GemmArgs args, std::span<const GemmTerm> terms, bool right_transposed) {
  args.terms = terms, args.terms_right_transposed = right_transposed;
  gemm(args);
}

// c = alpha * a b (+ bias) (+ c).
inline void multiply(const Matrix& a, const Matrix& b, const Matrix& c, double alpha = 1,
                     bool accumulate = false, const Operand* bias = nullptr) {
  gemm(product(a, b, c, alpha, accumulate, bias));
}

// The same on a GPU; only in a build with CUDA.
inline void multiply_cuda(void* stream, const Matrix& a, const Matrix& b, const Matrix& c, double alpha = 1,
                          bool accumulate = false, const Operand* bias = nullptr) {
  gemm_cuda(product(a, b, c, alpha, accumulate, bias), stream);
}

}  // namespace serval
