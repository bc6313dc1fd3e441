#include "gemm/gemm.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "gemm/gemm_reference.h"
#include "gemm/onednn.h"
#include "gemm/own.h"
#include "gemm/scratch.h"

namespace serval {
namespace {

bool types_supported(const GemmArgs& args) {
  if (args.a_dtype != args.b_dtype) return false;
  if (args.a_dtype == DType::f64 || args.a_dtype == DType::f32) return args.c_dtype == args.a_dtype;
  return args.a_dtype == DType::bf16 && (args.c_dtype == DType::bf16 || args.c_dtype == DType::f32);
}

void check(const GemmArgs& args) {
  SERVAL_CHECK(types_supported(args), "product of {} and {} into {}", name_of(args.a_dtype),
               name_of(args.b_dtype), name_of(args.c_dtype));
  SERVAL_CHECK(args.m >= 0 && args.n >= 0 && args.k >= 0);
  SERVAL_CHECK(args.a_stride >= (args.a_transposed ? args.m : args.k), "rows of A overlap");
  SERVAL_CHECK(args.b_stride >= (args.b_transposed ? args.k : args.n), "rows of B overlap");
  SERVAL_CHECK(args.c_stride >= args.n, "rows of C overlap");
  SERVAL_CHECK(args.bias == nullptr || args.bias_dtype == DType::f32 || args.bias_dtype == args.c_dtype ||
                   args.bias_dtype == args.a_dtype,
               "bias of type {}", name_of(args.bias_dtype));
}

std::atomic<ProductCode> product_code{ProductCode::best};

bool prefers_own(const GemmArgs& args) {
  // oneDNN finds the instruction set by itself, so an overridden one means our own kernels.
  if (cpu_isa() != best_cpu_isa() || cpu_isa() == CpuIsa::generic || is_few_rows(args)) return true;
  if (const ProductCode code = product_code; code != ProductCode::best) return code == ProductCode::own;
  // As measured (docs/performance.md): oneDNN drives the matrix unit worse; with AVX-512-BF16 the two are
  // alike but for the narrow products of adapters.
  return args.a_dtype == DType::bf16 &&
         (cpu_isa() == CpuIsa::amx || (cpu_isa() == CpuIsa::avx512_bf16 && args.n <= 16));
}

}  // namespace

void gemm(const GemmArgs& args) {
  check(args);
  if (args.m == 0 || args.n == 0) return;
  if (args.k == 0 || args.a_dtype == DType::f64) return gemm_reference(args);
  if (prefers_own(args) || !gemm_onednn(args)) gemm_own(args);
}

void set_product_code(ProductCode code) {
  product_code = code;
}

int64_t gemm_scratch_bytes() {
  return scratch_high_water();
}

std::string gemm_backend(const GemmArgs& args) {
  if (args.a_dtype == DType::f64) return "plain loops";
  const std::string implementation = prefers_own(args) ? "" : onednn_implementation(args);
  if (!implementation.empty()) return "oneDNN " + implementation;
  return fmt::format("own {} {}", is_few_rows(args) ? "few rows" : "blocks", name_of(cpu_isa()));
}

std::string gemm_info() {
  auto backend = [](DType dtype, int64_t m) {
    GemmArgs args{.m = m, .n = 256, .k = 256};
    args.a_dtype = args.b_dtype = args.c_dtype = dtype;
    args.a_stride = args.b_stride = args.c_stride = 256;
    args.b_transposed = true;
    return gemm_backend(args);
  };
  return fmt::format("f32: {}; bf16: {}; up to 8 rows: {}; {}", backend(DType::f32, 256),
                     backend(DType::bf16, 256), backend(DType::bf16, 1), onednn_version());
}

double measured_product_rate(DType dtype) {
  const int64_t size = cpu_isa() == CpuIsa::generic ? 512 : 1024;
  const int64_t bytes = size * size * size_of(dtype);
  std::vector<char> a(static_cast<size_t>(bytes)), b(a), c(a);  // zeros: the rate does not depend on values
  GemmArgs args{.m = size, .n = size, .k = size};
  args.a = a.data(), args.a_dtype = dtype, args.a_stride = size;
  args.b = b.data(), args.b_dtype = dtype, args.b_stride = size, args.b_transposed = true;
  args.c = c.data(), args.c_dtype = dtype, args.c_stride = size;
  gemm(args);  // warms up threads and primitives
  double best = 0;
  const auto start = std::chrono::steady_clock::now();
  auto now = start;
  while (now - start < std::chrono::milliseconds(150)) {
    const auto before = std::chrono::steady_clock::now();
    gemm(args);
    now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - before).count();
    best = std::max(best, 2.0 * static_cast<double>(size * size * size) / seconds);
  }
  return best;
}

}  // namespace serval
