#include "ops/attention/attention.h"

#include "ops/op_case.h"

namespace serval::testing {
namespace {

using Values = std::vector<double>;

struct AttentionCase {
  std::vector<int64_t> lengths;  // of the documents
  int64_t heads, kv_heads, head_dim, window;
  int64_t total() const {
    int64_t sum = 0;
    for (const int64_t n : lengths) sum += n;
    return sum;
  }
};

std::vector<AttentionCase> cases() {
  return {
      {{1}, 1, 1, 8, 0},
      {{7}, 2, 2, 8, 0},
      {{0, 1, 0, 5, 1}, 4, 2, 16, 0},
      {{17, 3}, 6, 2, 24, 4},
      {{33}, 2, 1, 40, 0},
      {{65}, 4, 1, 64, 0},
      {{20, 0, 45}, 2, 1, 128, 16},
      {{129}, 2, 2, 32, 0},
      {{9, 1, 30}, 2, 1, 256, 1},
      {{3, 64, 2}, 8, 2, 16, 33},
      {{70}, 1, 1, 72, 64},
      {{}, 1, 1, 8, 0},
      {{530, 20}, 2, 1, 256, 0},  // more keys than are packed at a time
      {{530}, 1, 1, 248, 40},
      {{13, 16, 11}, 12, 1, 8, 0},
  };
}

struct AttentionReference {
  Values o, lse, dq, dk, dv;
  AttentionReference(const AttentionCase& k, double scale, const Values& q, const Values& key,
                     const Values& v, const Values& d_o)
      : o(q.size(), 0.0),
        lse(static_cast<size_t>(k.total() * k.heads)),
        dq(q.size(), 0.0),
        dk(key.size(), 0.0),
        dv(v.size(), 0.0) {
    const int64_t d = k.head_dim, group = k.heads / k.kv_heads;
    int64_t begin = 0;
    for (const int64_t length : k.lengths) {
      for (int64_t head = 0; head < k.heads; ++head) {
        for (int64_t t = begin; t < begin + length; ++t) {
          const int64_t first = k.window > 0 ? std::max(begin, t - k.window + 1) : begin;
          const auto row = static_cast<size_t>((t * k.heads + head) * d);
          const auto other = [&](int64_t s) {
            return static_cast<size_t>((s * k.kv_heads + head / group) * d);
          };
          const auto dot = [&](const Values& a, size_t i, const Values& b, size_t j) {
            double sum = 0;
            for (int64_t e = 0; e < d; ++e)
              sum += a[i + static_cast<size_t>(e)] * b[j + static_cast<size_t>(e)];
            return sum;
          };
          Values p;
          double most = -1e300, sum = 0;
          for (int64_t s = first; s <= t; ++s) {
            p.push_back(scale * dot(q, row, key, other(s)));
            most = std::max(most, p.back());
          }
          for (const double score : p) sum += std::exp(score - most);
          const double total = most + std::log(sum);
          lse[static_cast<size_t>(t * k.heads + head)] = total;
          for (double& score : p) score = std::exp(score - total);
          for (int64_t s = first; s <= t; ++s)
            for (size_t e = 0; e < static_cast<size_t>(d); ++e)
              o[row + e] += p[static_cast<size_t>(s - first)] * v[other(s) + e];
          const double delta = dot(d_o, row, o, row);
          for (int64_t s = first; s <= t; ++s) {
            const double prob = p[static_cast<size_t>(s - first)],
                         ds = scale * prob * (dot(d_o, row, v, other(s)) - delta);
            for (size_t e = 0; e < static_cast<size_t>(d); ++e) {
              dq[row + e] += ds * key[other(s) + e];
              dk[other(s) + e] += ds * q[row + e];
              dv[other(s) + e] += prob * d_o[row + e];
            }
          }
        }
      }
      begin += length;
    }
  }
};

// bf16: q, k, v and dO are exact; P and dS are rounded for the products and o for delta, each once.
constexpr Tolerance kAttentionTolerance{1e-12, 3e-6, 8e-3};

Values offsets_of(const AttentionCase& k) {
  Values cu = {0};
  for (const int64_t n : k.lengths) cu.push_back(cu.back() + static_cast<double>(n));
  return cu;
}

TEST(Attention, MatchesTheReference) {
  uint64_t seed = 500;
  for (const AttentionCase& k : cases()) {
    Random random(++seed);
    SCOPED_TRACE("case " + std::to_string(seed - 500));
    const int64_t rows = k.total(), nq = k.heads * k.head_dim, nk = k.kv_heads * k.head_dim;
    const double scale = 0.9 / std::sqrt(static_cast<double>(k.head_dim));
    const Values q = random.normals(rows * nq, 2), key = random.normals(rows * nk),
                 v = random.normals(rows * nk), d_o = random.normals(rows * nq);
    const AttentionReference want(k, scale, q, key, v, d_o);
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const TensorId count = c.count(rows), documents = c.count(static_cast<int64_t>(k.lengths.size()) + 1);
      const int64_t capacity = rows + 3;
      const TensorId cu =
          c.integers("cu_seqlens", {static_cast<int64_t>(k.lengths.size()) + 3}, offsets_of(k), documents);
      const TensorId o =
          ops::attention(c.b(), "attention", c.tensor("q", {capacity, nq}, q, count),
                         c.tensor("k", {capacity, nk}, key, count), c.tensor("v", {capacity, nk}, v, count),
                         cu, {k.heads, k.kv_heads, k.head_dim, scale, k.window});
      c.derive({{0, d_o}}, {0, 1, 2});
      c.run();
      c.expect_near(o, want.o, kAttentionTolerance);
      c.expect_near(c.program().calls[0].outputs[1], want.lse, kAttentionTolerance);
      // With one key per query the weights do not depend on q and k: the exact gradient is zero.
      const bool constant = k.window == 1 || rows <= 1;
      if (!constant) {
        c.expect_near(c.gradient(0), want.dq, kAttentionTolerance);
        c.expect_near(c.gradient(1), want.dk, kAttentionTolerance);
      }
      c.expect_near(c.gradient(2), want.dv, kAttentionTolerance);
    });
  }
}

// Later keys weigh far more than all before them: what was summed up becomes small again and again.
TEST(Attention, ScoresThatGrow) {
  const AttentionCase k{{150}, 3, 1, 32, 0};
  Random random(640);
  const int64_t rows = k.total(), nq = k.heads * k.head_dim, nk = k.kv_heads * k.head_dim;
  const Values q = random.normals(rows * nq, 2), v = random.normals(rows * nk),
               d_o = random.normals(rows * nq);
  for (const double scale : {0.15, -0.15}) {
    Values key = random.normals(rows * nk);
    for (size_t i = 0; i < key.size(); ++i)
      key[i] *= 0.25 * static_cast<double>(i / static_cast<size_t>(nk) / 8);
    for (double& x : key) x = static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(x))));
    const AttentionReference want(k, scale, q, key, v, d_o);
    for_each_setting([&](const Setting& setting) {
      constexpr Tolerance kLoose{1e-12, 1e-4, 8e-3};
      OpCase c(setting);
      const TensorId o =
          ops::attention(c.b(), "attention", c.tensor("q", {rows, nq}, q), c.tensor("k", {rows, nk}, key),
                         c.tensor("v", {rows, nk}, v), c.integers("cu_seqlens", {2}, offsets_of(k)),
                         {k.heads, k.kv_heads, k.head_dim, scale, k.window});
      c.derive({{0, d_o}}, {0, 1, 2});
      c.run();
      c.expect_near(o, want.o, kLoose);
      c.expect_near(c.program().calls[0].outputs[1], want.lse, kLoose);
      for (size_t i = 0; i < 3; ++i)
        c.expect_near(c.gradient(i), i == 0 ? want.dq : i == 1 ? want.dk : want.dv, kLoose);
    });
  }
}

TEST(Attention, OnlyTheWantedGradients) {
  const AttentionCase k{{5, 12}, 2, 1, 16, 0};
  Random random(600);
  const Values q = random.normals(17 * 32), key = random.normals(17 * 16), v = random.normals(17 * 16),
               d_o = random.normals(17 * 32);
  const AttentionReference want(k, 0.25, q, key, v, d_o);
  for_each_setting([&](const Setting& setting) {
    for (const size_t wanted : {size_t{0}, size_t{1}, size_t{2}}) {
      OpCase c(setting);
      ops::attention(c.b(), "attention", c.tensor("q", {17, 32}, q), c.tensor("k", {17, 16}, key),
                     c.tensor("v", {17, 16}, v), c.integers("cu_seqlens", {3}, offsets_of(k)),
                     {2, 1, 16, 0.25, 0});
      c.derive({{0, d_o}}, {wanted});
      c.run();
      c.expect_near(c.gradient(wanted),
                    wanted == 0   ? want.dq
                    : wanted == 1 ? want.dk
                                  : want.dv,
                    kAttentionTolerance);
    }
  });
}

// More threads cut the gradient into other tasks; the sums keep their order.
TEST(Attention, BitsDoNotDependOnTheThreadCount) {
  for (const AttentionCase& k : std::vector<AttentionCase>{{{150}, 6, 2, 32, 0},
                                                           {{70, 0, 1, 131}, 12, 1, 16, 40},
                                                           {{40, 99}, 4, 4, 72, 0},
                                                           {{520}, 1, 1, 256, 0}}) {
    Random random(650);
    const int64_t rows = k.total(), nq = k.heads * k.head_dim, nk = k.kv_heads * k.head_dim;
    const Values q = random.normals(rows * nq), key = random.normals(rows * nk),
                 v = random.normals(rows * nk), d_o = random.normals(rows * nq);
    for (const CpuIsa isa : testable_cpu_isas()) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        SCOPED_TRACE(std::string(name_of(dtype)) + ' ' + name_of(isa));
        std::vector<std::vector<char>> first;
        for (const int threads : {1, 2, 7}) {
          set_cpu_isa(isa);
          set_num_threads(threads);
          OpCase c({DeviceKind::cpu, dtype, isa, threads, false});
          const TensorId o = ops::attention(
              c.b(), "attention", c.tensor("q", {rows, nq}, q), c.tensor("k", {rows, nk}, key),
              c.tensor("v", {rows, nk}, v),
              c.integers("cu_seqlens", {static_cast<int64_t>(k.lengths.size()) + 1}, offsets_of(k)),
              {k.heads, k.kv_heads, k.head_dim, 0.2, k.window});
          c.derive({{0, d_o}}, {0, 1, 2});
          c.run();
          const std::vector<std::vector<char>> bits = {c.raw(o), c.raw(c.gradient(0)), c.raw(c.gradient(1)),
                                                       c.raw(c.gradient(2))};
          if (threads == 1) first = bits;
          EXPECT_TRUE(bits == first) << threads << " threads";
        }
      }
    }
  }
  set_cpu_isa(best_cpu_isa());
  set_num_threads(0);
}

// Token by token and in pieces through the cache, against the whole sequences at once.
TEST(AttentionCached, EqualsTheWholeSequence) {
  const int64_t heads = 4, kv = 2, dim = 16, nq = heads * dim, nk = kv * dim, capacity = 24;
  const std::vector<int64_t> lengths = {13, 19};
  Random random(700);
  const Values q = random.normals(32 * nq), key = random.normals(32 * nk), v = random.normals(32 * nk);
  // New tokens of the two sequences in each run: prefills, single tokens, a sequence that gets none. With
  // room for few rows a GPU takes its decoding kernels.
  using Pieces = std::vector<std::vector<int64_t>>;
  const Pieces prompt = {{7, 1}, {1, 1}, {0, 9}, {5, 8}},
               tokens = {{1, 1}, {1, 1}, {1, 1}, {2, 2}, {1, 1}, {0, 3},
                         {1, 0}, {2, 2}, {1, 1}, {0, 4}, {3, 1}};
  for (const auto& [window, rows, pieces] : {std::tuple<int64_t, int64_t, Pieces>{0, 32, prompt},
                                             {5, 32, prompt},
                                             {0, 4, tokens},
                                             {5, 4, tokens}}) {
    const AttentionReference want({lengths, heads, kv, dim, window}, 0.3, q, key, v, Values(q.size(), 0.0));
    for_each_setting([&, window = window, rows = rows, &pieces = pieces](const Setting& setting) {
      Program program{.device = setting.device};
      ProgramBuilder b(program);
      const TensorId count = b.input("count", DType::i32, {1});
      const ops::KeyValueCache cache{b.state("k_cache", setting.dtype, {2 * capacity, nk}, Role::cache),
                                     b.state("v_cache", setting.dtype, {2 * capacity, nk}, Role::cache),
                                     b.input("past", DType::i32, {2}), capacity};
      const TensorId o = ops::attention_cached(
          b, "attention", b.input("q", setting.dtype, {rows, nq}, count),
          b.input("k", setting.dtype, {rows, nk}, count), b.input("v", setting.dtype, {rows, nk}, count),
          b.input("cu", DType::i32, {3}), cache, {heads, kv, dim, 0.3, window});
      ProgramRunner runner(program, ArenaKind::scattered, device_of(setting.device));
      std::vector<int64_t> past = {0, 0};
      const auto rows_of = [&](const Values& all, int64_t width, const std::vector<int64_t>& piece) {
        Values values;
        for (size_t s = 0; s < 2; ++s) {
          const int64_t first = ((s == 0 ? 0 : lengths[0]) + past[s]) * width;
          values.insert(values.end(), all.begin() + first, all.begin() + first + piece[s] * width);
        }
        return values;
      };
      for (const auto& piece : pieces) {
        runner.set("count", {static_cast<double>(piece[0] + piece[1])});
        runner.set("past", {static_cast<double>(past[0]), static_cast<double>(past[1])});
        runner.set("cu", {0, static_cast<double>(piece[0]), static_cast<double>(piece[0] + piece[1])});
        runner.set("q", rows_of(q, nq, piece));
        runner.set("k", rows_of(key, nk, piece));
        runner.set("v", rows_of(v, nk, piece));
        runner.run();
        expect_close(runner.get(o), rows_of(want.o, nq, piece), kAttentionTolerance.of(setting.dtype),
                     "cached");
        for (size_t s = 0; s < 2; ++s) past[s] += piece[s];
      }
    });
  }
}

}  // namespace
}  // namespace serval::testing
