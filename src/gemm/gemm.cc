#include "gemm/gemm.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>

#include "base/cpu.h"
#include "base/error.h"
#include "gemm/gemm_reference.h"
#include "gemm/onednn.h"
#include "gemm/own.h"
#include "gemm/scratch.h"
#include "tensor/device.h"

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
  for (const GemmTerm& term : args.terms) {
    SERVAL_CHECK(term.column >= 0 && term.columns >= 0 && term.rank >= 0 &&
                 term.column + term.columns <= args.n);
    SERVAL_CHECK(term.left_stride >= term.rank, "rows of a term overlap");
    SERVAL_CHECK(term.right_stride >= (args.terms_right_transposed ? term.rank : term.columns),
                 "rows of a term overlap");
  }
}

std::atomic<ProductCode> product_code{ProductCode::best};

// Whether our own code takes the terms into the product's sums. They are packed side by side, so many large
// ones would cost more than a pass over C.
bool takes_terms(const GemmArgs& args) {
  int64_t rank = 0;
  for (const GemmTerm& term : args.terms) rank += term.rank;
  return rank > 0 && rank <= std::max<int64_t>(args.k / 4, 64) && args.alpha == 1 && args.k > 0 &&
         args.a_dtype == DType::bf16 && cpu_isa() >= CpuIsa::avx512_bf16 && !is_few_rows(args);
}

bool prefers_own(const GemmArgs& args) {
  // oneDNN finds the instruction set by itself, so an overridden one means our own kernels.
  if (cpu_isa() != best_cpu_isa() || cpu_isa() == CpuIsa::generic || is_few_rows(args)) return true;
  if (const ProductCode code = product_code; code != ProductCode::best) return code == ProductCode::own;
  // As measured (docs/performance.md): ours is faster on the matrix unit; with AVX-512-BF16 for long sums,
  // where it takes low-rank terms as well, and for the narrow products of adapters.
  return args.a_dtype == DType::bf16 &&
         (cpu_isa() == CpuIsa::amx || (cpu_isa() == CpuIsa::avx512_bf16 && (args.n <= 16 || args.k >= 512)));
}

// Each term by itself, for code that does not take them into its sums.
void add_terms(const GemmArgs& args) {
  for (const GemmTerm& term : args.terms) {
    GemmArgs product{.m = args.m, .n = term.columns, .k = term.rank};
    product.a = term.left, product.a_dtype = args.a_dtype, product.a_stride = term.left_stride;
    product.b = term.right, product.b_dtype = args.b_dtype, product.b_stride = term.right_stride;
    product.b_transposed = args.terms_right_transposed;
    product.c = static_cast<char*>(args.c) + term.column * size_of(args.c_dtype);
    product.c_dtype = args.c_dtype, product.c_stride = args.c_stride, product.accumulate = true;
    gemm(product);
  }
}

}  // namespace

void gemm(const GemmArgs& args) {
  check(args);
  if (args.m == 0 || args.n == 0) return;
  const bool own = prefers_own(args);
  if (own && takes_terms(args)) return gemm_own(args);
  GemmArgs product = args;
  product.terms = {};
  if (args.k == 0 || args.a_dtype == DType::f64)
    gemm_reference(product);
  else if (own || !gemm_onednn(product))
    gemm_own(product);
  add_terms(args);
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
  const std::unique_ptr<Device> device = make_cpu_device();
  const Buffer a(*device, bytes), b(*device, bytes), c(*device, bytes);
  for (const Buffer* matrix : {&a, &b, &c}) device->fill_zero(matrix->data(), bytes);  // values do not matter
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
