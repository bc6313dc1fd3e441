#include "ops/linear/linear.h"

#include "ops/op_case.h"

namespace serval::testing {
namespace {

using Values = std::vector<double>;

struct LinearCase {
  const char* name;
  int64_t rows, capacity, in;
  std::vector<int64_t> segments, ranks;  // no ranks: no adapter
  bool bias = false;
  bool trains_base = false, trains_adapter = true, wants_dx = true;
  double dropout = 0;
};

std::vector<LinearCase> cases() {
  return {
      {"one element", 1, 1, 1, {1}, {}, false, true},
      {"odd", 7, 9, 33, {17}, {}, true, true},
      {"frozen, gradient of x only", 5, 5, 65, {33, 3}, {}, true},
      {"no rows", 0, 4, 16, {8, 8}, {2, 3}, true, true},
      {"q, k, v", 17, 20, 64, {64, 32, 32}, {4, 4, 4}, true},
      {"ranks differ", 9, 12, 33, {17, 7, 3}, {5, 0, 2}, false},
      {"all trained", 9, 12, 40, {24, 16}, {3, 2}, true, true},
      {"adapter frozen", 6, 6, 24, {8, 8}, {2, 2}, false, false, false},
      {"first layer", 6, 6, 24, {8, 8}, {2, 2}, false, false, true, false},
      {"wide", 33, 33, 129, {65}, {16}, false},
      {"rows by threads", 70, 75, 33, {70, 33}, {5, 4}, true, true},
      {"rows by threads, dropout", 67, 70, 33, {40, 9}, {3, 4}, false, false, true, true, 0.25},
      {"dropout", 17, 20, 33, {16, 9, 7}, {3, 0, 4}, true, true, true, true, 0.25},
      {"dropout, first layer", 8, 8, 16, {8}, {4}, false, false, true, false, 0.5},
  };
}

int64_t sum(const std::vector<int64_t>& values) {
  int64_t total = 0;
  for (const int64_t v : values) total += v;
  return total;
}

// c[m,n] += scale * op(a) op(b); at(i, j) reads.
template <class A, class B>
void product(Values& c, int64_t m, int64_t n, int64_t k, double scale, A a, B b) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double total = 0;
      for (int64_t l = 0; l < k; ++l) total += a(i, l) * b(l, j);
      c[static_cast<size_t>(i * n + j)] += scale * total;
    }
}

struct LinearData {
  Values x, w, bias, a, dy;
  std::vector<Values> b;
  Values scales;
  // Gradients hold these before.
  Values w0, bias0, a0;
  std::vector<Values> b0;

  LinearData(const LinearCase& k, Random& random) {
    const int64_t out = sum(k.segments), rank = sum(k.ranks);
    x = random.normals(k.rows * k.in), w = random.normals(out * k.in), bias = random.normals(out);
    a = random.normals(rank * k.in, 0.5), dy = random.normals(k.rows * out);
    w0 = random.normals(out * k.in), bias0 = random.normals(out), a0 = random.normals(rank * k.in);
    for (size_t i = 0; i < k.segments.size(); ++i) {
      const int64_t r = k.ranks.empty() ? 0 : k.ranks[i];
      b.push_back(random.normals(k.segments[i] * r, 0.5));
      b0.push_back(random.normals(k.segments[i] * r));
      scales.push_back(0.5 + static_cast<double>(i) / 3);
    }
  }
};

// The mask of one segment as the contract states it: Philox(seed, "<name>.<segment>", step, micro-step,
// element), rows padded to whole blocks of four words.
Values mask_of(const LinearCase& k, size_t segment, const Values& random) {
  Values mask(static_cast<size_t>(k.rows * k.in), 1.0);
  if (k.dropout == 0) return mask;
  const PhiloxKey key = philox_key(static_cast<uint64_t>(random[0]), "layer." + std::to_string(segment),
                                   static_cast<uint32_t>(random[1]), static_cast<uint32_t>(random[2]));
  const int64_t padded = (k.in + 3) / 4 * 4;
  for (int64_t row = 0; row < k.rows; ++row)
    for (int64_t i = 0; i < k.in; ++i) {
      const double u = philox_u32(key, static_cast<uint64_t>(row * padded + i)) / 4294967296.0;
      mask[static_cast<size_t>(row * k.in + i)] = u < 1 - k.dropout ? 1 / (1 - k.dropout) : 0;
    }
  return mask;
}

struct LinearReference {
  Values y, dx, dw, d_bias, da;
  std::vector<Values> db;

  LinearReference(const LinearCase& k, const LinearData& d, const Values& random)
      : y(d.dy.size(), 0.0), dx(d.x.size(), 0.0), dw(d.w0), d_bias(d.bias0), da(d.a0), db(d.b0) {
    const int64_t out = sum(k.segments), m = k.rows, in = k.in;
    const auto at = [](const Values& v, int64_t stride) {
      return [&v, stride](int64_t i, int64_t j) { return v[static_cast<size_t>(i * stride + j)]; };
    };
    const auto transposed = [](const Values& v, int64_t stride) {
      return [&v, stride](int64_t i, int64_t j) { return v[static_cast<size_t>(j * stride + i)]; };
    };
    product(y, m, out, in, 1, at(d.x, in), transposed(d.w, in));
    product(dx, m, in, out, 1, at(d.dy, out), at(d.w, in));
    product(dw, out, in, m, 1, transposed(d.dy, out), at(d.x, in));
    for (int64_t row = 0; row < m; ++row)
      for (int64_t j = 0; j < out; ++j) {
        if (k.bias) y[static_cast<size_t>(row * out + j)] += d.bias[static_cast<size_t>(j)];
        d_bias[static_cast<size_t>(j)] += d.dy[static_cast<size_t>(row * out + j)];
      }
    int64_t column = 0, first = 0;
    for (size_t s = 0; s < k.ranks.size(); ++s) {
      const int64_t n = k.segments[s], r = k.ranks[s];
      const Values mask = mask_of(k, s, random);
      Values dropped = d.x, u(static_cast<size_t>(m * r), 0.0), v = u, back(d.x.size(), 0.0),
             part(static_cast<size_t>(m * n), 0.0), dy(part.size()),
             a(d.a.begin() + first * in, d.a.begin() + (first + r) * in), grad_a(a.size(), 0.0);
      for (size_t i = 0; i < dropped.size(); ++i) dropped[i] *= mask[i];
      for (int64_t row = 0; row < m; ++row)
        for (int64_t j = 0; j < n; ++j)
          dy[static_cast<size_t>(row * n + j)] = d.dy[static_cast<size_t>(row * out + column + j)];
      product(u, m, r, in, 1, at(dropped, in), transposed(a, in));
      product(part, m, n, r, d.scales[s], at(u, r), transposed(d.b[s], r));
      product(v, m, r, n, d.scales[s], at(dy, n), at(d.b[s], r));
      product(back, m, in, r, 1, at(v, r), at(a, in));
      product(grad_a, r, in, m, 1, transposed(v, r), at(dropped, in));
      product(db[s], n, r, m, d.scales[s], transposed(dy, n), at(u, r));
      for (int64_t row = 0; row < m; ++row)
        for (int64_t j = 0; j < n; ++j)
          y[static_cast<size_t>(row * out + column + j)] += part[static_cast<size_t>(row * n + j)];
      for (size_t i = 0; i < back.size(); ++i) dx[i] += back[i] * mask[i];
      for (size_t i = 0; i < grad_a.size(); ++i) da[static_cast<size_t>(first * in) + i] += grad_a[i];
      column += n;
      first += r;
    }
  }
};

// Operand order of the call: x, weight, bias, a, random, b...
TensorId build(OpCase& c, const LinearCase& k, const LinearData& d, const Values& random) {
  ops::LinearAdapter adapter;
  const int64_t out = sum(k.segments), rank = sum(k.ranks);
  if (rank > 0) {
    adapter.a = c.tensor("a", {rank, k.in}, d.a);
    adapter.ranks = k.ranks;
    adapter.scales = d.scales;
    adapter.dropout = k.dropout;
    adapter.random = c.integers("random", {3}, random, kNone, DType::i64);
    for (size_t i = 0; i < k.ranks.size(); ++i)
      adapter.b.push_back(k.ranks[i] == 0 ? kNone
                                          : c.typed("b" + std::to_string(i), c.setting().dtype,
                                                    {k.segments[i], k.ranks[i]}, d.b[i]));
  }
  return ops::linear(c.b(), "layer", c.tensor("x", {k.capacity, k.in}, d.x, c.count(k.rows)),
                     c.tensor("w", {out, k.in}, d.w), k.bias ? c.tensor("bias", {out}, d.bias) : kNone,
                     k.segments, adapter);
}

// u, v and (with dropout) x * mask are rounded to the element type between the products; in bf16 each
// rounding is 2^-9, and sums of few terms cancel.
constexpr Tolerance kLinearTolerance{1e-13, 2e-6, 1e-2};

TEST(Linear, MatchesTheReference) {
  uint64_t seed = 300;
  for (const LinearCase& k : cases()) {
    SCOPED_TRACE(k.name);
    Random random(++seed);
    const LinearData d(k, random);
    const Values state = {77, 5, 3};
    const LinearReference want(k, d, state);
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const TensorId y = build(c, k, d, state);
      std::map<size_t, Values> accumulators;
      if (k.trains_base) {
        accumulators[1] = d.w0;
        if (k.bias) accumulators[2] = d.bias0;
      }
      if (k.trains_adapter && sum(k.ranks) > 0) {
        accumulators[3] = d.a0;
        for (size_t i = 0; i < k.ranks.size(); ++i)
          if (k.ranks[i] > 0) accumulators[5 + i] = d.b0[i];
      }
      c.derive({{0, d.dy}}, k.wants_dx ? std::set<size_t>{0} : std::set<size_t>{}, accumulators);
      c.run();
      c.expect_near(y, want.y, kLinearTolerance);
      if (k.wants_dx) c.expect_near(c.gradient(0), want.dx, kLinearTolerance);
      for (const auto& [input, before] : accumulators) {
        const Values& expected = input == 1   ? want.dw
                                 : input == 2 ? want.d_bias
                                 : input == 3 ? want.da
                                              : want.db[input - 5];
        c.expect_near(c.parameter_gradient(input), expected, kLinearTolerance);
      }
    });
  }
}

// A frozen layer without an adapter needs no x in its backward pass: it must not keep it alive.
TEST(Linear, FrozenLayerDoesNotKeepItsInput) {
  Setting setting;
  OpCase c(setting);
  const LinearCase k{"frozen", 2, 2, 4, {4}, {}};
  Random random(1);
  const LinearData d(k, random);
  build(c, k, d, {});
  const TensorId x = c.program().calls[0].inputs[0];
  c.derive({{0, d.dy}}, {0});
  for (const TensorId id : c.program().calls[1].inputs) EXPECT_NE(id, x);
}

// The identity as adapter shows the mask itself.
Values dropout_of(const std::string& name, const Values& random, double p) {
  const int64_t n = 64;
  OpCase c({});
  Values identity(n * n, 0.0), ones(n * n, 1.0);
  for (int64_t i = 0; i < n; ++i) identity[static_cast<size_t>(i * n + i)] = 1;
  ops::LinearAdapter adapter{.a = c.typed("a", DType::f32, {n, n}, identity),
                             .b = {c.typed("b", DType::f32, {n, n}, identity)},
                             .ranks = {n},
                             .scales = {1},
                             .dropout = p,
                             .random = c.integers("random", {3}, random, kNone, DType::i64)};
  const TensorId y = ops::linear(c.b(), name, c.typed("x", DType::f32, {n, n}, ones),
                                 c.typed("w", DType::f32, {n, n}, Values(n * n, 0.0)), kNone, {n}, adapter);
  c.run();
  return c.get(y);
}

TEST(Linear, DropoutMask) {
  const double p = 0.3;
  const Values mask = dropout_of("a.b", {1, 2, 3}, p);
  double kept = 0;
  for (const double value : mask) {
    EXPECT_TRUE(value == 0 || std::abs(value - 1 / (1 - p)) < 1e-6) << value;
    kept += value != 0 ? 1 : 0;
  }
  // 4096 draws: a standard deviation is 29.
  EXPECT_NEAR(kept, 4096 * (1 - p), 120);
  EXPECT_EQ(dropout_of("a.b", {1, 2, 3}, p), mask);
  for (const Values& other : {dropout_of("a.c", {1, 2, 3}, p), dropout_of("a.b", {2, 2, 3}, p),
                              dropout_of("a.b", {1, 3, 3}, p), dropout_of("a.b", {1, 2, 4}, p)})
    EXPECT_NE(other, mask);
}

}  // namespace
}  // namespace serval::testing
