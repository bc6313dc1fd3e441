// Rates of the products that training and decoding consist of, by our code and by oneDNN's:
// gemm_bench [threads [instruction set [part of a name]]]. One thread is timed by its processor time, so that
// it may run on a busy machine.
#include <cstring>
#include <string>

#include "bench.h"
#include "gemm/gemm.h"

namespace serval {
namespace {

struct Shape {
  const char* name;
  int64_t m, n, k;
  DType in, out;
  bool a_transposed, b_transposed, accumulate;
};

constexpr DType kF32 = DType::f32, kBf16 = DType::bf16;

const Shape kShapes[] = {
    {"forward y = x W^T", 1024, 3072, 1024, kBf16, kBf16, false, true, false},
    {"forward y = x W^T", 1024, 1024, 1024, kBf16, kBf16, false, true, false},
    {"forward y = x W^T", 1024, 6144, 1024, kBf16, kBf16, false, true, false},
    {"forward y = x W^T", 1024, 1024, 3072, kBf16, kBf16, false, true, false},
    {"forward y = x W^T", 1024, 1024, 1024, kF32, kF32, false, true, false},
    {"backward dX = dY W", 1024, 1024, 3072, kBf16, kBf16, false, false, false},
    {"backward dX = dY W", 1024, 1024, 1024, kBf16, kBf16, false, false, false},
    {"backward dX = dY W", 1024, 1024, 6144, kBf16, kBf16, false, false, false},
    {"backward dW += dY^T x", 3072, 1024, 1024, kBf16, kF32, true, false, true},
    {"backward dW += dY^T x", 1024, 1024, 1024, kF32, kF32, true, false, true},
    {"adapter U = x A^T", 1024, 16, 1024, kBf16, kBf16, false, true, false},
    {"adapter U = x A^T", 1024, 48, 1024, kBf16, kBf16, false, true, false},
    {"adapter Y += U B^T", 1024, 3072, 16, kBf16, kBf16, false, true, true},
    {"adapter V = dY B", 1024, 16, 3072, kBf16, kBf16, false, false, false},
    {"adapter dX += V A", 1024, 1024, 16, kBf16, kBf16, false, false, true},
    {"adapter dA += V^T x", 16, 1024, 1024, kBf16, kF32, true, false, true},
    {"adapter dB += dY^T U", 3072, 16, 1024, kBf16, kF32, true, false, true},
    {"head logits = x W^T", 256, 151936, 1024, kBf16, kF32, false, true, false},
    {"head dX = dL W", 256, 1024, 151936, kBf16, kF32, false, false, false},
    {"decode 1 row", 1, 3072, 1024, kBf16, kBf16, false, true, false},
    {"decode 1 row", 1, 151936, 1024, kBf16, kF32, false, true, false},
    {"decode 4 rows", 4, 3072, 1024, kBf16, kBf16, false, true, false},
    {"decode 8 rows", 8, 151936, 1024, kBf16, kF32, false, true, false},
    {"decode 1 row", 1, 32768, 1024, kF32, kF32, false, true, false},
    {"tiny forward", 256, 256, 128, kBf16, kBf16, false, true, false},
    {"tiny forward", 256, 768, 128, kBf16, kBf16, false, true, false},
    {"tiny forward", 256, 128, 384, kBf16, kBf16, false, true, false},
    {"tiny backward dX", 256, 128, 256, kBf16, kBf16, false, false, false},
    {"tiny backward dX", 256, 128, 768, kBf16, kBf16, false, false, false},
    {"tiny backward dX", 256, 384, 128, kBf16, kBf16, false, false, false},
    {"tiny adapter U", 256, 48, 128, kBf16, kBf16, false, true, false},
    {"tiny adapter Y", 256, 128, 16, kBf16, kBf16, false, true, true},
    {"tiny adapter V", 256, 16, 128, kBf16, kBf16, false, false, false},
    {"tiny adapter dA", 48, 128, 256, kBf16, kF32, true, false, true},
    {"tiny adapter dB", 128, 16, 256, kBf16, kF32, true, false, true},
    {"tiny head logits", 256, 768, 128, kBf16, kF32, false, true, false},
};

void measure(const Shape& shape) {
  const std::unique_ptr<Device> device = make_cpu_device();  // large pages, as the tensors of a step
  const auto matrix = [&](int64_t rows, int64_t columns, DType dtype) {
    Buffer buffer(*device, rows * columns * size_of(dtype));
    // 0x3c: small numbers in every type, never NaN.
    std::memset(buffer.data(), 0x3c, static_cast<size_t>(buffer.bytes()));
    return buffer;
  };
  const Buffer a = matrix(shape.m, shape.k, shape.in), b = matrix(shape.k, shape.n, shape.in),
               c = matrix(shape.m, shape.n, shape.out);
  GemmArgs args{.m = shape.m, .n = shape.n, .k = shape.k};
  args.a = a.data(), args.a_dtype = shape.in, args.a_transposed = shape.a_transposed;
  args.a_stride = shape.a_transposed ? shape.m : shape.k;
  args.b = b.data(), args.b_dtype = shape.in, args.b_transposed = shape.b_transposed;
  args.b_stride = shape.b_transposed ? shape.k : shape.n;
  args.c = c.data(), args.c_dtype = shape.out, args.c_stride = shape.n, args.accumulate = shape.accumulate;
  const double flops = 2.0 * static_cast<double>(shape.m * shape.n * shape.k);
  const double moved = static_cast<double>(a.bytes() + b.bytes() + c.bytes() * (shape.accumulate ? 2 : 1));
  const std::string chosen = gemm_backend(args);
  std::string rates;
  for (const ProductCode code : {ProductCode::own, ProductCode::library}) {
    set_product_code(code);
    const std::string backend = gemm_backend(args);
    gemm(args);  // makes the primitive
    const double seconds = best_seconds(1, 200, 0.15, [&] { gemm(args); });
    rates +=
        fmt::format("{:9.3f} ms {:7.1f} GFLOP/s {:5.1f} GB/s {} {:32}", seconds * 1e3, flops / seconds / 1e9,
                    moved / seconds / 1e9, backend == chosen ? '*' : ' ', backend);
    set_product_code(ProductCode::best);
  }
  fmt::print("{:22} {:>5} x {:>6} x {:>6}  {:>4} -> {:4}{}\n", shape.name, shape.m, shape.n, shape.k,
             name_of(shape.in), name_of(shape.out), rates);
}

}  // namespace
}  // namespace serval

int main(int argc, char** argv) {
  using namespace serval;
  set_threads_and_isa(argc, argv);
  fmt::print("{}; {} threads; {}\n", cpu_text(), num_threads(), gemm_info());
  for (DType dtype : {DType::f32, DType::bf16})
    fmt::print("large {} product: {:.1f} GFLOP/s\n", name_of(dtype), measured_product_rate(dtype) / 1e9);
  for (const Shape& shape : kShapes)
    if (argc <= 3 || std::string_view(shape.name).find(argv[3]) != std::string_view::npos) measure(shape);
  fmt::print("scratch memory: {} bytes\n", gemm_scratch_bytes());
}
