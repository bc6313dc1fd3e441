// A low-rank term of a product (gemm.h); plain data, for the kernels too.
#pragma once
#include <cstdint>

namespace serval {

// left right for some columns of C: left [m, rank], right [rank, columns], both of A's type.
struct GemmTerm {
  const void* left = nullptr;
  int64_t left_stride = 0;
  const void* right = nullptr;
  int64_t right_stride = 0;
  int64_t column = 0, columns = 0, rank = 0;
};

}  // namespace serval
