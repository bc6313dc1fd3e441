#include "ops/rope/rope.h"

#include "ops/op_case.h"

namespace serval::testing {
namespace {

using Values = std::vector<double>;

struct RopeCase {
  int64_t rows, capacity, q_heads, k_heads, head_dim, rotated;
  bool interleaved, normed;
};
constexpr RopeCase kRopeCases[] = {
    {1, 1, 1, 1, 8, 8, false, false},     {7, 9, 4, 2, 16, 16, false, true},
    {7, 9, 3, 1, 16, 16, true, true},     {0, 3, 2, 2, 8, 8, false, true},
    {17, 20, 2, 1, 40, 40, true, false},  {5, 5, 2, 2, 24, 10, false, true},
    {9, 12, 1, 1, 256, 256, false, true}, {5, 5, 2, 1, 24, 12, true, false},
    {7, 9, 33, 3, 64, 64, false, true},   {13, 16, 17, 5, 128, 128, false, true},
    {6, 6, 9, 2, 128, 128, false, false}, {41, 44, 3, 2, 256, 256, false, true},
};

TEST(RopeTable, AnglesOfPositions) {
  const Values frequency = {1, 0.25, 1e-3}, positions = {0, 3, 1000, 7};
  for_each_setting([&](const Setting& setting) {
    OpCase c(setting);
    const auto table = ops::rope_table(c.b(), "rope", c.integers("positions", {6}, positions, c.count(4)),
                                       frequency, 1.5, setting.dtype);
    c.run();
    Values cos, sin;
    for (const double position : positions)
      for (const double f : frequency) {
        const auto angle = static_cast<double>(static_cast<float>(position) * static_cast<float>(f));
        cos.push_back(1.5 * std::cos(angle));
        sin.push_back(1.5 * std::sin(angle));
      }
    EXPECT_EQ(c.program().tensor(table.cos).dtype, setting.wide());
    c.expect_near(table.cos, cos, {1e-15, 1e-7, 1e-7});
    c.expect_near(table.sin, sin, {1e-15, 1e-7, 1e-7});
  });
}

// One side (q or k): forward, and its gradients, head by head.
struct RopeReference {
  Values out, dx, dw;
  RopeReference(const RopeCase& k, int64_t heads, const Values& x, const Values& w, const Values& cos,
                const Values& sin, const Values& dy, double eps)
      : out(x), dx(x.size()), dw(w.size(), 0.0) {
    const int64_t d = k.head_dim, half = k.rotated / 2;
    for (int64_t row = 0; row < k.rows; ++row) {
      for (int64_t head = 0; head < heads; ++head) {
        const auto at = static_cast<size_t>((row * heads + head) * d);
        Values n(x.begin() + static_cast<int64_t>(at), x.begin() + static_cast<int64_t>(at) + d),
            g(static_cast<size_t>(d));
        double r = 1;
        if (k.normed) {
          double squares = 0;
          for (const double v : n) squares += v * v;
          r = 1 / std::sqrt(squares / static_cast<double>(d) + eps);
        }
        Values y = n;
        for (size_t i = 0; i < y.size(); ++i) y[i] *= r * (k.normed ? w[i] : 1);
        // The rotation as a matrix: out = R y, so g = R^T dy.
        for (size_t i = 0; i < y.size(); ++i) out[at + i] = y[i], g[i] = dy[at + i];
        for (int64_t pair = 0; pair < half; ++pair) {
          const auto a = static_cast<size_t>(k.interleaved ? 2 * pair : pair),
                     b = static_cast<size_t>(k.interleaved ? 2 * pair + 1 : pair + half);
          const double c = cos[static_cast<size_t>(row * half + pair)],
                       s = sin[static_cast<size_t>(row * half + pair)];
          out[at + a] = y[a] * c - y[b] * s;
          out[at + b] = y[b] * c + y[a] * s;
          g[a] = dy[at + a] * c + dy[at + b] * s;
          g[b] = dy[at + b] * c - dy[at + a] * s;
        }
        double mean = 0;
        for (size_t i = 0; i < y.size() && k.normed; ++i) {
          dw[i] += g[i] * n[i] * r;
          g[i] *= w[i];
          mean += g[i] * n[i] * r / static_cast<double>(d);
        }
        for (size_t i = 0; i < y.size(); ++i) dx[at + i] = r * (g[i] - (k.normed ? n[i] * r * mean : 0));
      }
    }
  }
};

TEST(QkNormRope, MatchesTheReference) {
  uint64_t seed = 400;
  for (const RopeCase& k : kRopeCases) {
    SCOPED_TRACE(k.head_dim);
    Random random(++seed);
    const int64_t nq = k.q_heads * k.head_dim, nk = k.k_heads * k.head_dim, half = k.rotated / 2;
    const Values q = random.normals(k.rows * nq), key = random.normals(k.rows * nk),
                 cos = random.normals(k.rows * half), sin = random.normals(k.rows * half),
                 wq = random.normals(k.head_dim), wk = random.normals(k.head_dim),
                 dq = random.normals(k.rows * nq), dk = random.normals(k.rows * nk),
                 before = random.normals(k.head_dim);
    const RopeReference want_q(k, k.q_heads, q, wq, cos, sin, dq, 1e-2),
        want_k(k, k.k_heads, key, wk, cos, sin, dk, 1e-2);
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const TensorId count = c.count(k.rows);
      ops::QkRopeOptions options{.head_dim = k.head_dim, .interleaved = k.interleaved, .eps = 1e-2};
      if (k.normed) {
        options.q_norm = c.tensor("q_norm", {k.head_dim}, wq);
        options.k_norm = c.tensor("k_norm", {k.head_dim}, wk);
      }
      const ops::RopeTable table{c.typed("cos", setting.wide(), {k.capacity, half}, cos, count),
                                 c.typed("sin", setting.wide(), {k.capacity, half}, sin, count)};
      const auto out = ops::qk_norm_rope(c.b(), "rope", c.tensor("q", {k.capacity, nq}, q, count),
                                         c.tensor("k", {k.capacity, nk}, key, count), table, options);
      std::map<size_t, Values> accumulators;
      if (k.normed) accumulators = {{4, before}, {5, before}};
      c.derive({{0, dq}, {1, dk}}, {0, 1}, accumulators);
      c.run();
      c.expect_near(out.q, want_q.out, kRowTolerance);
      c.expect_near(out.k, want_k.out, kRowTolerance);
      c.expect_near(c.gradient(0), want_q.dx, kRowTolerance);
      c.expect_near(c.gradient(1), want_k.dx, kRowTolerance);
      if (!k.normed) return;
      Values dwq = before, dwk = before;
      for (size_t i = 0; i < before.size(); ++i) dwq[i] += want_q.dw[i], dwk[i] += want_k.dw[i];
      c.expect_near(c.parameter_gradient(4), dwq, kRowTolerance);
      c.expect_near(c.parameter_gradient(5), dwk, kRowTolerance);
    });
  }
}

}  // namespace
}  // namespace serval::testing
