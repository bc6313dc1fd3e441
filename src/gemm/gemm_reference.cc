#include "gemm/gemm_reference.h"

#include <algorithm>
#include <vector>

#include "base/parallel.h"

namespace serval {
namespace {

double element(const void* data, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::f64:
      return static_cast<const double*>(data)[index];
    case DType::f32:
      return static_cast<const float*>(data)[index];
    case DType::bf16:
      return static_cast<float>(static_cast<const BFloat16*>(data)[index]);
    default:
      return 0;
  }
}

void store(void* data, DType dtype, int64_t index, double value) {
  switch (dtype) {
    case DType::f64:
      static_cast<double*>(data)[index] = value;
      return;
    case DType::f32:
      static_cast<float*>(data)[index] = static_cast<float>(value);
      return;
    default:
      static_cast<BFloat16*>(data)[index] = BFloat16(static_cast<float>(value));
  }
}

}  // namespace

void gemm_reference(const GemmArgs& args) {
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, args.n * args.k));
  parallel_for(0, args.m, grain, [&](int64_t begin, int64_t end) {
    // Each row of B is read once per block of rows, which keeps f64 references bearable.
    constexpr int64_t kRows = 8;
    std::vector<double> sums(static_cast<size_t>(kRows * args.n)), b_row(static_cast<size_t>(args.n));
    for (int64_t first = begin; first < end; first += kRows) {
      const int64_t rows = std::min(kRows, end - first);
      std::fill(sums.begin(), sums.end(), 0.0);
      for (int64_t k = 0; k < args.k; ++k) {
        for (int64_t n = 0; n < args.n; ++n)
          b_row[static_cast<size_t>(n)] = element(
              args.b, args.b_dtype, args.b_transposed ? n * args.b_stride + k : k * args.b_stride + n);
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t m = first + row;
          const double a = element(args.a, args.a_dtype,
                                   args.a_transposed ? k * args.a_stride + m : m * args.a_stride + k);
          double* sum = sums.data() + row * args.n;
          for (int64_t n = 0; n < args.n; ++n) sum[n] += a * b_row[static_cast<size_t>(n)];
        }
      }
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t n = 0; n < args.n; ++n) {
          const int64_t index = (first + row) * args.c_stride + n;
          double value = args.alpha * sums[static_cast<size_t>(row * args.n + n)];
          if (args.bias != nullptr) value += element(args.bias, args.bias_dtype, n);
          if (args.accumulate) value += element(args.c, args.c_dtype, index);
          store(args.c, args.c_dtype, index, value);
        }
      }
    }
  });
}

}  // namespace serval
