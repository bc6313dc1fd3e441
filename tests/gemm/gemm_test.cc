#include "gemm/gemm.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/parallel.h"

namespace serval {
namespace {

// Lines of the cache, so that rows can be read where they are.
template <class T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* data, size_t) { ::operator delete(data, kLine); }
  bool operator==(const LineAllocator&) const = default;
};

// A stored matrix with unused elements at the end of each row, which hold NaN (inputs) or must stay
// (outputs).
struct Matrix {
  int64_t rows = 0, columns = 0, stride = 0;
  DType dtype = DType::f32;
  std::vector<uint8_t, LineAllocator<uint8_t>> bytes;

  std::vector<double> values() const {
    std::vector<double> all(static_cast<size_t>(rows * stride));
    if (!all.empty())
      convert_elements(bytes.data(), dtype, all.data(), DType::f64, static_cast<int64_t>(all.size()));
    return all;
  }
};

// The values of a matrix, decoded once.
struct Values {
  explicit Values(const Matrix& matrix) : stride(matrix.stride), all(matrix.values()) {}
  double at(int64_t row, int64_t column) const { return all[static_cast<size_t>(row * stride + column)]; }
  int64_t stride;
  std::vector<double> all;
};

Matrix random_matrix(int64_t rows, int64_t columns, int64_t padding, DType dtype, uint32_t seed,
                     double fill) {
  Matrix matrix{rows, columns, columns + padding, dtype, {}};
  std::vector<double> values(static_cast<size_t>(rows * matrix.stride), fill);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column)
      values[static_cast<size_t>(row * matrix.stride + column)] = normal(random);
  if (values.empty()) return matrix;
  matrix.bytes.resize(values.size() * static_cast<size_t>(size_of(dtype)));
  convert_elements(values.data(), DType::f64, matrix.bytes.data(), dtype,
                   static_cast<int64_t>(values.size()));
  return matrix;
}

struct Term {
  int64_t column, columns, rank;
};

struct Case {
  int64_t m, n, k;
  DType in = DType::f32, out = DType::f32;
  bool a_transposed = false, b_transposed = false, accumulate = false;
  float alpha = 1;
  bool bias = false;
  DType bias_dtype = DType::f32;
  int64_t padding = 0;
  std::vector<Term> terms = {};
  bool terms_right_transposed = false;
};

std::string text_of(const Case& c) {
  return fmt::format(
      "{}x{}x{} {}->{} ta={} tb={} acc={} alpha={} bias={}:{} padding={} terms={}:{} isa={} threads={}", c.m,
      c.n, c.k, name_of(c.in), name_of(c.out), c.a_transposed, c.b_transposed, c.accumulate, c.alpha, c.bias,
      name_of(c.bias_dtype), c.padding, c.terms.size(), c.terms_right_transposed, name_of(cpu_isa()),
      num_threads());
}

struct Problem {
  explicit Problem(const Case& c) : what(c) {
    const double nan = std::nan("");
    a = c.a_transposed ? random_matrix(c.k, c.m, c.padding, c.in, 1, nan)
                       : random_matrix(c.m, c.k, c.padding, c.in, 1, nan);
    b = c.b_transposed ? random_matrix(c.n, c.k, c.padding, c.in, 2, nan)
                       : random_matrix(c.k, c.n, c.padding, c.in, 2, nan);
    bias = random_matrix(1, c.n, 0, c.bias_dtype, 3, nan);
    for (const Term& t : c.terms) {
      const uint32_t seed = 5 + 2 * static_cast<uint32_t>(left.size());
      left.push_back(random_matrix(c.m, t.rank, c.padding, c.in, seed, nan));
      right.push_back(c.terms_right_transposed
                          ? random_matrix(t.columns, t.rank, c.padding, c.in, seed + 1, nan)
                          : random_matrix(t.rank, t.columns, c.padding, c.in, seed + 1, nan));
    }
    before = random_matrix(c.m, c.n, c.padding, c.out, 4, 77);
    if (!c.accumulate && c.n > 0)  // what C held must not matter
      for (int64_t row = 0; row < c.m; ++row)
        std::memset(before.bytes.data() + row * before.stride * size_of(c.out), 0xff,
                    static_cast<size_t>(c.n * size_of(c.out)));
  }

  Matrix run() const {
    Matrix c = before;
    GemmArgs args{.m = what.m, .n = what.n, .k = what.k};
    args.a = a.bytes.data(), args.a_dtype = what.in, args.a_stride = a.stride;
    args.a_transposed = what.a_transposed;
    args.b = b.bytes.data(), args.b_dtype = what.in, args.b_stride = b.stride;
    args.b_transposed = what.b_transposed;
    args.c = c.bytes.data(), args.c_dtype = what.out, args.c_stride = c.stride;
    args.alpha = what.alpha, args.accumulate = what.accumulate;
    if (what.bias) args.bias = bias.bytes.data(), args.bias_dtype = what.bias_dtype;
    std::vector<GemmTerm> terms;
    for (size_t i = 0; i < left.size(); ++i)
      terms.push_back({left[i].bytes.data(), left[i].stride, right[i].bytes.data(), right[i].stride,
                       what.terms[i].column, what.terms[i].columns, what.terms[i].rank});
    args.terms = terms, args.terms_right_transposed = what.terms_right_transposed;
    gemm(args);
    return c;
  }

  void check(const Matrix& output) const {
    const Values values_a(a), values_b(b), offset(bias), old(before), result(output);
    const std::vector<Values> lefts(left.begin(), left.end()), rights(right.begin(), right.end());
    double error = 0, scale = 0;
    for (int64_t m = 0; m < what.m; ++m) {
      for (int64_t n = 0; n < what.n; ++n) {
        double sum = 0, size = 0;
        for (int64_t k = 0; k < what.k; ++k) {
          const double product = (what.a_transposed ? values_a.at(k, m) : values_a.at(m, k)) *
                                 (what.b_transposed ? values_b.at(n, k) : values_b.at(k, n));
          sum += product;
          size += product * product;
        }
        double expected = static_cast<double>(what.alpha) * sum;
        double terms = static_cast<double>(what.alpha) * static_cast<double>(what.alpha) * size;
        for (size_t i = 0; i < what.terms.size(); ++i) {
          const Term& t = what.terms[i];
          if (n < t.column || n >= t.column + t.columns) continue;
          for (int64_t r = 0; r < t.rank; ++r) {
            const double product =
                lefts[i].at(m, r) *
                (what.terms_right_transposed ? rights[i].at(n - t.column, r) : rights[i].at(r, n - t.column));
            expected += product, terms += product * product;
          }
        }
        if (what.bias) expected += offset.at(0, n), terms += offset.at(0, n) * offset.at(0, n);
        if (what.accumulate) expected += old.at(m, n), terms += old.at(m, n) * old.at(m, n);
        error += std::pow(result.at(m, n) - expected, 2);
        scale += terms;
      }
      for (int64_t n = what.n; n < result.stride; ++n) ASSERT_EQ(result.at(m, n), 77) << text_of(what);
    }
    // Norm-wise against the terms of each sum. f32 sums of up to some hundred terms: 1e-6 is about 10
    // roundings. A bf16 result is rounded once or (product, then sum with C or bias) three times, each 2^-9
    // at most.
    double tolerance = 1e-6;
    if (what.in == DType::f64) tolerance = 1e-14;
    if (what.out == DType::bf16) tolerance = 4e-3;
    EXPECT_LE(std::sqrt(error), tolerance * std::sqrt(scale)) << text_of(what);
    EXPECT_FALSE(std::isnan(error)) << text_of(what);
  }

  Case what;
  Matrix a, b, bias, before;
  std::vector<Matrix> left, right;
};

// Our kernels on every instruction set, and the library's on the best one.
struct Code {
  CpuIsa isa = CpuIsa::generic;
  ProductCode code = ProductCode::own;
};
std::vector<Code> all_codes() {
  std::vector<Code> codes = {{best_cpu_isa(), ProductCode::library}};
  for (const CpuIsa isa : testable_cpu_isas()) codes.push_back({isa, ProductCode::own});
  return codes;
}

class GemmTest : public ::testing::TestWithParam<std::tuple<Code, int>> {
 protected:
  void SetUp() override {
    set_cpu_isa(std::get<0>(GetParam()).isa);
    set_product_code(std::get<0>(GetParam()).code);
    set_num_threads(std::get<1>(GetParam()));
  }
  void TearDown() override {
    set_cpu_isa(best_cpu_isa());
    set_product_code(ProductCode::best);
    set_num_threads(0);
  }
  static void run(const Case& c) {
    const Problem problem(c);
    problem.check(problem.run());
  }
};

const std::vector<std::pair<DType, DType>> kTypes = {{DType::f64, DType::f64},
                                                     {DType::f32, DType::f32},
                                                     {DType::bf16, DType::bf16},
                                                     {DType::bf16, DType::f32}};

TEST_P(GemmTest, SizesAndTransposes) {
  const int64_t shapes[][3] = {{1, 1, 1},      {3, 7, 17},   {17, 3, 7},   {7, 17, 3},   {33, 65, 129},
                               {65, 33, 64},   {129, 33, 7}, {1, 129, 65}, {2, 64, 128}, {8, 33, 257},
                               {9, 16, 300},   {64, 64, 64}, {16, 130, 1}, {5, 48, 96},  {130, 16, 33},
                               {16, 200, 130}, {70, 1, 40},  {257, 96, 16}};
  for (const auto& [in, out] : kTypes)
    for (const auto& s : shapes)
      for (int flags = 0; flags < 8; ++flags)
        run({.m = s[0],
             .n = s[1],
             .k = s[2],
             .in = in,
             .out = out,
             .a_transposed = (flags & 1) != 0,
             .b_transposed = (flags & 2) != 0,
             .accumulate = (flags & 4) != 0,
             .padding = (s[0] + s[1]) % 4});
}

TEST_P(GemmTest, AlphaBiasAccumulate) {
  for (const auto& [in, out] : kTypes)
    for (int64_t m : {4, 40})
      for (DType bias_dtype : {DType::f32, in})
        for (int flags = 0; flags < 8; ++flags)
          run({.m = m,
               .n = 50,
               .k = 30,
               .in = in,
               .out = out,
               .b_transposed = true,
               .accumulate = (flags & 4) != 0,
               .alpha = (flags & 1) != 0 ? 0.3f : 1.0f,
               .bias = (flags & 2) != 0,
               .bias_dtype = bias_dtype,
               .padding = 5});
}

// Columns of one term, of several side by side, and of some that leave columns out or have a rank of their
// own.
TEST_P(GemmTest, LowRankTerms) {
  const std::vector<std::vector<Term>> terms = {
      {{0, 96, 16}}, {{0, 32, 16}, {32, 64, 16}}, {{5, 40, 7}, {45, 3, 33}, {70, 26, 16}}, {{0, 96, 80}}};
  for (const auto& [in, out] : kTypes)
    for (size_t t = 0; t < terms.size(); ++t)
      for (uint32_t flags = 0; flags < 12; ++flags)
        run({.m = flags % 3 == 0 ? 5 : 70,
             .n = 96,
             .k = flags < 2        ? 0
                  : flags % 2 == 0 ? 64
                                   : 75,
             .in = in,
             .out = out,
             .a_transposed = flags % 4 == 3,
             .b_transposed = (flags + t) % 2 == 0,
             .accumulate = (flags / 2 + t) % 2 == 0,
             .bias = true,
             .padding = flags % 4 == 2 ? 0 : 3,
             .terms = terms[t],
             .terms_right_transposed = (flags / 4 + t) % 2 == 0});
}

TEST_P(GemmTest, LongSums) {
  // Several blocks along every dimension of a blocked product.
  for (const auto& [in, out] : {std::pair{DType::f32, DType::f32}, {DType::bf16, DType::f32}})
    for (int flags = 0; flags < 4; ++flags)
      run({.m = 67,
           .n = 83,
           .k = 1101,
           .in = in,
           .out = out,
           .a_transposed = (flags & 1) != 0,
           .b_transposed = (flags & 2) != 0,
           .accumulate = true});
}

TEST_P(GemmTest, TallGradients) {
  for (const auto& [in, out] : kTypes)
    for (int64_t n : {1, 16, 17})
      run({.m = 16 * n + 261,
           .n = n,
           .k = 37,
           .in = in,
           .out = out,
           .a_transposed = true,
           .accumulate = true,
           .alpha = 0.5f,
           .bias = true,
           .padding = 3});
}

TEST_P(GemmTest, EmptySizes) {
  for (const auto& [in, out] : kTypes)
    for (bool accumulate : {false, true})
      for (bool bias : {false, true}) {
        run({.m = 0, .n = 5, .k = 3, .in = in, .out = out, .accumulate = accumulate, .bias = bias});
        run({.m = 5, .n = 0, .k = 3, .in = in, .out = out, .accumulate = accumulate, .bias = bias});
        run({.m = 5,
             .n = 4,
             .k = 0,
             .in = in,
             .out = out,
             .accumulate = accumulate,
             .bias = bias,
             .padding = 2});
      }
}

TEST_P(GemmTest, SameBitsEveryTime) {
  for (const auto& [in, out] : kTypes)
    for (int64_t m : {3, 64}) {
      const Problem problem({.m = m, .n = 96, .k = 530, .in = in, .out = out, .b_transposed = true});
      const Matrix first = problem.run();
      for (int again = 0; again < 5; ++again)
        EXPECT_EQ(first.bytes, problem.run().bytes) << text_of(problem.what);
    }
}

INSTANTIATE_TEST_SUITE_P(All, GemmTest,
                         ::testing::Combine(::testing::ValuesIn(all_codes()), ::testing::Values(1, 2)),
                         [](const auto& parameter) {
                           const Code& code = std::get<0>(parameter.param);
                           return fmt::format("{}_{}_{}", code.code == ProductCode::own ? "own" : "library",
                                              name_of(code.isa), std::get<1>(parameter.param));
                         });

// Our bf16 kernels: the matrix unit (emulated where there is none) and AVX-512-BF16.
class Bf16Test : public ::testing::TestWithParam<CpuIsa> {
 protected:
  void SetUp() override {
    set_cpu_isa(GetParam());
    set_product_code(ProductCode::own);
  }
  void TearDown() override {
    set_cpu_isa(best_cpu_isa());
    set_product_code(ProductCode::best);
    set_num_threads(0);
  }
};

// All sizes around the edges of tiles, panels and chunks, in every dimension.
TEST_P(Bf16Test, SizesAroundTheEdges) {
  const std::vector<int64_t> edges = {1,  2,  9,  11, 13, 15, 16, 17, 23, 31,
                                      32, 33, 47, 48, 49, 63, 64, 65, 70};
  uint32_t turn = 0;
  for (const int64_t m : edges)
    for (const int64_t n : edges)
      for (const int64_t k : {edges[(turn + 5) % edges.size()], edges[(turn * 7 + 2) % edges.size()]}) {
        const uint32_t flags = turn++ * 2654435761u >> 20;
        const Problem problem({.m = m,
                               .n = n,
                               .k = k,
                               .in = DType::bf16,
                               .out = (flags & 1) != 0 ? DType::bf16 : DType::f32,
                               .a_transposed = (flags & 2) != 0,
                               .b_transposed = (flags & 4) != 0,
                               .accumulate = (flags & 8) != 0,
                               .alpha = (flags & 16) != 0 ? -0.7f : 1.0f,
                               .bias = (flags & 32) != 0,
                               .bias_dtype = (flags & 64) != 0 ? DType::bf16 : DType::f32,
                               .padding = static_cast<int64_t>(flags >> 7 & 3)});
        problem.check(problem.run());
      }
}

// Several blocks in each dimension, and products that are computed as C^T.
TEST_P(Bf16Test, BlocksAndTransposedBlocks) {
  const int64_t shapes[][3] = {
      {1061, 40, 1600}, {16, 2100, 900}, {2100, 16, 300}, {70, 70, 3200}, {1100, 520, 65}};
  for (const auto& s : shapes)
    for (const bool accumulate : {false, true}) {
      const Problem problem({.m = s[0],
                             .n = s[1],
                             .k = s[2],
                             .in = DType::bf16,
                             .out = DType::f32,
                             .a_transposed = accumulate,
                             .b_transposed = !accumulate,
                             .accumulate = accumulate,
                             .bias = true,
                             .padding = accumulate ? 3 : 0,
                             .terms = {{3, s[1] - 5, 20}, {0, s[1], 16}},
                             .terms_right_transposed = accumulate});
      problem.check(problem.run());
    }
}

TEST_P(Bf16Test, BitsDoNotDependOnTheThreadCount) {
  const int64_t shapes[][3] = {{100, 700, 1700}, {700, 16, 500}, {1040, 96, 100}, {40, 300, 130}};
  for (const auto& s : shapes)
    for (const bool a_transposed : {false, true}) {
      const Problem problem({.m = s[0],
                             .n = s[1],
                             .k = s[2],
                             .in = DType::bf16,
                             .out = DType::bf16,
                             .a_transposed = a_transposed,
                             .b_transposed = !a_transposed,
                             .accumulate = true,
                             .alpha = a_transposed ? 0.5f : 1.0f,
                             .terms = {{0, s[1] / 2, 16}, {s[1] / 2, s[1] / 3, 9}}});
      set_num_threads(1);
      const Matrix one = problem.run();
      for (const int threads : {2, 3, 7, 16}) {
        set_num_threads(threads);
        EXPECT_EQ(one.bytes, problem.run().bytes) << text_of(problem.what);
      }
    }
}

// An element that is not finite reaches its row or column, alone, and as what IEEE arithmetic makes of it.
TEST_P(Bf16Test, InfinityAndNaN) {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (const int64_t k : {1, 5, 16, 33, 70})
    for (const int flags : {0, 1, 2, 3})
      for (const int64_t n : {7, 40}) {
        const int64_t m = 35;
        Problem problem({.m = m,
                         .n = n,
                         .k = k,
                         .in = DType::bf16,
                         .out = DType::f32,
                         .a_transposed = (flags & 1) != 0,
                         .b_transposed = (flags & 2) != 0,
                         .padding = 2});
        const auto put = [&](Matrix& matrix, bool across, int64_t line, int64_t at, double value) {
          const int64_t index = across ? at * matrix.stride + line : line * matrix.stride + at;
          convert_elements(&value, DType::f64, matrix.bytes.data() + 2 * index, DType::bf16, 1);
        };
        for (int64_t line = 0; line < n; ++line) put(problem.b, (flags & 2) == 0, line, k - 1, 1 + line % 3);
        put(problem.a, (flags & 1) != 0, 3, k - 1, infinity);
        put(problem.a, (flags & 1) != 0, m - 1, k - 1, -infinity);
        put(problem.a, (flags & 1) != 0, 20, k - 1, nan);
        const Values result(problem.run());
        for (int64_t row = 0; row < m; ++row)
          for (int64_t column = 0; column < n; ++column) {
            const double x = result.at(row, column);
            const std::string where = fmt::format("{} at {},{}", text_of(problem.what), row, column);
            if (row == 3)
              EXPECT_EQ(x, infinity) << where;
            else if (row == m - 1)
              EXPECT_EQ(x, -infinity) << where;
            else if (row == 20)
              EXPECT_TRUE(std::isnan(x)) << where;
            else
              EXPECT_TRUE(std::isfinite(x)) << where;
          }
      }
}

std::vector<CpuIsa> bf16_isas() {
  std::vector<CpuIsa> isas;
  for (const CpuIsa isa : testable_cpu_isas())
    if (isa >= CpuIsa::avx512_bf16) isas.push_back(isa);
  return isas;
}
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Bf16Test);
INSTANTIATE_TEST_SUITE_P(All, Bf16Test, ::testing::ValuesIn(bf16_isas()),
                         [](const auto& parameter) { return std::string(name_of(parameter.param)); });

TEST(Gemm, FewRowsAreIndependentOfTheThreadCount) {
  const Problem problem(
      {.m = 2, .n = 300, .k = 1000, .in = DType::bf16, .out = DType::f32, .b_transposed = true});
  set_num_threads(1);
  const Matrix one = problem.run();
  set_num_threads(3);
  EXPECT_EQ(one.bytes, problem.run().bytes);
  set_num_threads(0);
}

TEST(Gemm, InsideAParallelRegion) {
  const Problem problem(
      {.m = 40, .n = 50, .k = 60, .in = DType::bf16, .out = DType::bf16, .b_transposed = true});
  set_num_threads(1);
  const Matrix serial = problem.run();
  set_num_threads(2);
  std::vector<Matrix> results(2);
  parallel_for(0, 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) results[static_cast<size_t>(i)] = problem.run();
  });
  for (const Matrix& result : results) EXPECT_EQ(result.bytes, serial.bytes);
  set_num_threads(0);
}

TEST(Gemm, ManyShapesFromSeveralThreads) {
  // More shapes than the cache of primitives holds, asked for at the same time.
  set_num_threads(1);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 2; ++thread)
    threads.emplace_back([] {
      for (int64_t m = 9; m < 560; ++m) {
        const Problem problem({.m = m, .n = 2, .k = 3});
        problem.check(problem.run());
      }
    });
  for (std::thread& thread : threads) thread.join();
  set_num_threads(0);
}

TEST(GemmDeathTest, RefusesMixedTypes) {
  GemmArgs args{.m = 1, .n = 1, .k = 1};
  args.a_dtype = DType::f32, args.b_dtype = DType::bf16;
  args.a_stride = args.b_stride = args.c_stride = 1;
  EXPECT_DEATH(gemm(args), "product of f32 and bf16");
}

TEST(Gemm, InfoAndRate) {
  EXPECT_NE(gemm_info().find("oneDNN"), std::string::npos);
  EXPECT_GT(measured_product_rate(DType::f32), 1e8);
  EXPECT_GT(gemm_scratch_bytes(), 0);
}

}  // namespace
}  // namespace serval
