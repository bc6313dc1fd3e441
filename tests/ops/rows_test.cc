// Ops that work row by row: RMSNorm, SwiGLU, embedding, sums and copies, the largest element.
#include <algorithm>
#include <limits>

#include "ops/argmax/argmax.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/op_case.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/swiglu/swiglu.h"

namespace serval::testing {
namespace {

using Values = std::vector<double>;

struct RowCase {
  int64_t rows, capacity, columns;
};
constexpr RowCase kRowCases[] = {{1, 1, 1},  {1, 3, 7},   {3, 3, 16},   {0, 4, 8},
                                 {7, 9, 33}, {5, 8, 129}, {17, 20, 65}, {9, 9, 1024}};

Values plus(Values a, const Values& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

// y = s r w; ds = r (g - n mean(g n)) + extra; dw += dy n, with n = s r, g = dy w.
struct NormReference {
  Values y, ds, dw;
  NormReference(const Values& s, const Values& w, const Values& dy, const Values& extra, double eps)
      : y(s.size()), ds(s.size()), dw(w.size(), 0.0) {
    const size_t n = w.size();
    for (size_t row = 0; row * n < s.size(); ++row) {
      double squares = 0, mean = 0;
      for (size_t i = 0; i < n; ++i) squares += s[row * n + i] * s[row * n + i];
      const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
      for (size_t i = 0; i < n; ++i)
        mean += dy[row * n + i] * w[i] * s[row * n + i] * r / static_cast<double>(n);
      for (size_t i = 0; i < n; ++i) {
        const size_t at = row * n + i;
        y[at] = s[at] * r * w[i];
        ds[at] = r * (dy[at] * w[i] - s[at] * r * mean) + (extra.empty() ? 0 : extra[at]);
        dw[i] += dy[at] * s[at] * r;
      }
    }
  }
};

TEST(RmsNorm, Plain) {
  for (const RowCase& k : kRowCases) {
    SCOPED_TRACE(k.columns);
    Random random(static_cast<uint64_t>(k.columns));
    const Values x = random.normals(k.rows * k.columns), w = random.normals(k.columns),
                 dy = random.normals(k.rows * k.columns), before = random.normals(k.columns);
    const NormReference want(x, w, dy, {}, 1e-2);
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const TensorId count = c.count(k.rows);
      const TensorId y = ops::rms_norm(c.b(), "norm", c.tensor("x", {k.capacity, k.columns}, x, count),
                                       c.tensor("w", {k.columns}, w), 1e-2);
      c.derive({{0, dy}}, {0}, {{1, before}});
      c.run();
      c.expect_near(y, want.y, kRowTolerance);
      // One column: the gradient is eps times small, a difference of close numbers.
      if (k.columns > 1) c.expect_near(c.gradient(0), want.ds, kRowTolerance);
      c.expect_near(c.parameter_gradient(1), plus(want.dw, before), kRowTolerance);
    });
  }
}

// Both wanted; only one wanted; only the weight; and the sum's own gradient present or not.
TEST(RmsNorm, FusedResidual) {
  for (const RowCase& k : kRowCases) {
    SCOPED_TRACE(k.columns);
    Random random(static_cast<uint64_t>(k.columns) + 50);
    // Small integers and halves: x + branch is exact in bf16.
    Values x(static_cast<size_t>(k.rows * k.columns)), branch = x;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<double>(random.below(15) - 7);
      branch[i] = static_cast<double>(random.below(16)) / 4 - 2;
    }
    const Values w = random.normals(k.columns), dy = random.normals(k.rows * k.columns),
                 d_sum = random.normals(k.rows * k.columns), before = random.normals(k.columns);
    const NormReference want(plus(x, branch), w, dy, d_sum, 1e-2), alone(plus(x, branch), w, dy, {}, 1e-2);
    for_each_setting([&](const Setting& setting) {
      for (const int variant : {0, 1, 2, 3}) {
        OpCase c(setting);
        const TensorId count = c.count(k.rows);
        const auto out = ops::residual_rms_norm(
            c.b(), "norm", c.tensor("x", {k.capacity, k.columns}, x, count),
            c.tensor("branch", {k.capacity, k.columns}, branch, count), c.tensor("w", {k.columns}, w), 1e-2);
        if (variant == 0) c.derive({{0, dy}, {1, d_sum}}, {0, 2}, {{1, before}});
        if (variant == 1) c.derive({{0, dy}}, {2});
        if (variant == 2) c.derive({{0, dy}}, {}, {{1, before}});
        if (variant == 3) c.derive({{1, d_sum}}, {0, 2});
        c.run();
        c.expect_near(out.y, want.y, kRowTolerance);
        c.expect_near(out.sum, plus(x, branch), {0, 0, 0});
        if (variant == 0) {
          c.expect_near(c.gradient(0), want.ds, kRowTolerance);
          EXPECT_EQ(c.gradient(0), c.gradient(2));
        }
        if (variant == 1 && k.columns > 1) c.expect_near(c.gradient(2), alone.ds, kRowTolerance);
        if (variant == 0 || variant == 2)
          c.expect_near(c.parameter_gradient(1), plus(want.dw, before), kRowTolerance);
        if (variant == 3) {
          c.expect_near(c.gradient(0), d_sum, {0, 0, 0});
          c.expect_near(c.gradient(2), d_sum, {0, 0, 0});
        }
      }
    });
  }
}

TEST(SwiGlu, MatchesTheReference) {
  for (const RowCase& k : kRowCases) {
    SCOPED_TRACE(k.columns);
    Random random(static_cast<uint64_t>(k.columns) + 100);
    Values x = random.normals(k.rows * 2 * k.columns, 3);
    const Values dy = random.normals(k.rows * k.columns);
    // The ends of e^x.
    if (k.columns == 33) x[0] = -100, x[1] = 100, x[2] = -88, x[3] = 0, x[4] = -300;
    Values y(dy.size()), dx(x.size());
    for (int64_t row = 0; row < k.rows; ++row) {
      for (int64_t i = 0; i < k.columns; ++i) {
        const size_t gate = static_cast<size_t>(row * 2 * k.columns + i),
                     up = gate + static_cast<size_t>(k.columns),
                     at = static_cast<size_t>(row * k.columns + i);
        const double s = 1 / (1 + std::exp(-x[gate]));
        y[at] = x[gate] * s * x[up];
        dx[gate] = dy[at] * x[up] * s * (1 + x[gate] * (1 - s));
        dx[up] = dy[at] * x[gate] * s;
      }
    }
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const TensorId out =
          ops::swiglu(c.b(), "act", c.tensor("x", {k.capacity, 2 * k.columns}, x, c.count(k.rows)));
      c.derive({{0, dy}}, {0});
      c.run();
      c.expect_near(out, y, kRowTolerance);
      c.expect_near(c.gradient(0), dx, kRowTolerance);
    });
  }
}

TEST(Embedding, MatchesTheReference) {
  for (const RowCase& k : kRowCases) {
    SCOPED_TRACE(k.columns);
    Random random(static_cast<uint64_t>(k.columns) + 150);
    const int64_t vocab = 5;
    Values ids, y, weight = random.normals(vocab * k.columns);
    for (int64_t i = 0; i < k.rows; ++i) ids.push_back(static_cast<double>(random.below(vocab)));
    const Values dy = random.normals(k.rows * k.columns), before = random.normals(vocab * k.columns);
    Values d_weight = before;
    for (int64_t row = 0; row < k.rows; ++row) {
      for (int64_t i = 0; i < k.columns; ++i) {
        const auto at =
            static_cast<size_t>(static_cast<int64_t>(ids[static_cast<size_t>(row)]) * k.columns + i);
        y.push_back(weight[at]);
        d_weight[at] += dy[static_cast<size_t>(row * k.columns + i)];
      }
    }
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const TensorId out =
          ops::embedding(c.b(), "embed", c.integers("ids", {k.capacity}, ids, c.count(k.rows)),
                         c.tensor("weight", {vocab, k.columns}, weight));
      c.derive({{0, dy}}, {}, {{1, before}});
      c.run();
      c.expect_near(out, y, {0, 0, 0});
      c.expect_near(c.parameter_gradient(1), d_weight, {1e-15, 1e-6, 1e-6});
    });
  }
}

TEST(Elementwise, SumsCopiesZerosAndGathers) {
  for (const RowCase& k : kRowCases) {
    SCOPED_TRACE(k.columns);
    Random random(static_cast<uint64_t>(k.columns) + 200);
    const Values x = random.normals(k.rows * k.columns), y = random.normals(k.rows * k.columns);
    Values rows, gathered;
    for (int64_t i = 0; i < 3 && k.rows > 0; ++i) {
      rows.push_back(static_cast<double>(random.below(k.rows)));
      for (int64_t j = 0; j < k.columns; ++j)
        gathered.push_back(
            x[static_cast<size_t>(rows.back()) * static_cast<size_t>(k.columns) + static_cast<size_t>(j)]);
    }
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const TensorId count = c.count(k.rows);
      const Shape shape{k.capacity, k.columns};
      const TensorId a = c.tensor("a", shape, x, count), target = c.tensor("target", shape, y, count),
                     zeroed = c.tensor("zeroed", shape, y, count),
                     copied = c.tensor("copied", shape, y, count);
      const TensorId sum = ops::add(c.b(), "sum", a, c.tensor("b", shape, y, count));
      ops::accumulate(c.b(), "accumulate", target, a);
      ops::fill_zero(c.b(), "zero", zeroed);
      ops::copy(c.b(), "copy", a, copied);
      const TensorId picked = ops::gather_rows(
          c.b(), "gather", a, c.integers("rows", {4}, rows, c.count(static_cast<int64_t>(rows.size()))));
      c.run();
      c.expect_near(sum, plus(x, y), kRowTolerance);
      c.expect_near(target, plus(x, y), kRowTolerance);
      c.expect_near(copied, x, {0, 0, 0});
      c.expect_near(zeroed, Values(x.size(), 0.0), {0, 0, 0});
      c.expect_near(picked, gathered, {0, 0, 0});
    });
  }
}

// Few different values, so that equals abound; rows of equal elements; infinities; a NaN.
TEST(Argmax, TheLowestIndexAmongEquals) {
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<RowCase> cases(std::begin(kRowCases), std::end(kRowCases));
  cases.push_back({3, 4, 5003});
  cases.push_back({2, 2, 16384});
  for (const RowCase& k : cases) {
    SCOPED_TRACE(k.columns);
    Random random(static_cast<uint64_t>(k.columns) + 250);
    Values x, want;
    for (int64_t row = 0; row < k.rows; ++row) {
      Values values;
      for (int64_t i = 0; i < k.columns; ++i) values.push_back(static_cast<double>(random.below(9)) - 8);
      const auto at = static_cast<size_t>(random.below(k.columns));
      if (row % 5 == 1) values.assign(values.size(), row % 2 == 0 ? -infinity : -3.0);
      if (row % 5 == 2) values[at] = infinity;
      if (row % 5 == 3) values.assign(values.size(), -infinity);
      want.push_back(static_cast<double>(std::max_element(values.begin(), values.end()) - values.begin()));
      if (row % 5 == 4) {
        values[static_cast<size_t>(random.below(k.columns))] = infinity;
        values[at] = std::nan("");
        want.back() = -1;
      }
      x.insert(x.end(), values.begin(), values.end());
    }
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const TensorId out =
          ops::argmax_rows(c.b(), "argmax", c.tensor("x", {k.capacity, k.columns}, x, c.count(k.rows)));
      c.run();
      EXPECT_EQ(c.get(out), want);
    });
  }
}

}  // namespace
}  // namespace serval::testing
