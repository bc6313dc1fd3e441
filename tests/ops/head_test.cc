#include "ops/head/head.h"

#include <algorithm>

#include "ops/head/head_kernels.h"
#include "ops/op_case.h"

namespace serval::testing {
namespace {

using Values = std::vector<double>;

struct HeadCase {
  const char* name;
  int64_t tokens, capacity, hidden, vocab, labelled, label_capacity;
  int64_t chunk = 0;  // rows of a chunk; 0: the default
  double scale = 1;   // of the hidden rows
};

std::vector<HeadCase> cases() {
  return {
      {"one", 1, 1, 1, 1, 1, 1},
      {"odd", 7, 9, 33, 17, 5, 6},
      {"no labels", 6, 8, 16, 11, 0, 4},
      {"no tokens", 0, 4, 8, 5, 0, 2},
      {"all rows", 17, 20, 65, 129, 17, 20},
      {"rows by threads", 70, 72, 33, 65, 67, 70},
      {"vocab below a lane", 5, 5, 8, 3, 4, 5},
      {"chunks of 16", 65, 70, 24, 33, 49, 60, 16},
      {"chunks of 16, exact", 64, 64, 16, 40, 32, 33, 16},
      {"chunks of 1", 9, 9, 16, 33, 5, 7, 1},
      {"blocks of the vocabulary", 40, 40, 9, 1100, 37, 40},
      {"segments of the vocabulary", 20, 20, 3, 17003, 19, 20},
      {"sixteen rows of whole chunks", 16, 16, 64, 2080, 16, 16},
      {"large logits", 40, 40, 12, 3000, 36, 40, 0, 40},
  };
}

struct HeadReference {
  Values nll, correct, logits;  // logits of the labelled rows
  Values d_hidden, d_weight;
  // `g`: factor of each row's nll gradient.
  HeadReference(const HeadCase& k, const Values& h, const Values& w, const Values& rows, const Values& labels,
                const Values& g, const Values& before)
      : d_hidden(h.size(), 0.0), d_weight(before) {
    const auto n = static_cast<size_t>(k.hidden), vocab = static_cast<size_t>(k.vocab);
    for (size_t l = 0; l < rows.size(); ++l) {
      const size_t row = static_cast<size_t>(rows[l]) * n, label = static_cast<size_t>(labels[l]);
      Values z(vocab, 0.0);
      double most = -1e300, sum = 0;
      for (size_t v = 0; v < vocab; ++v) {
        for (size_t i = 0; i < n; ++i) z[v] += h[row + i] * w[v * n + i];
        most = std::max(most, z[v]);
      }
      for (const double x : z) sum += std::exp(x - most);
      nll.push_back(most + std::log(sum) - z[label]);
      correct.push_back(z[label] == most ? 1 : 0);
      logits.insert(logits.end(), z.begin(), z.end());
      for (size_t v = 0; v < vocab; ++v) {
        const double d = g[l] * (std::exp(z[v] - most) / sum - (v == label ? 1 : 0));
        for (size_t i = 0; i < n; ++i) {
          d_hidden[row + i] += d * w[v * n + i];
          d_weight[v * n + i] += d * h[row + i];
        }
      }
    }
  }
};

// bf16: the gradient of each logit is rounded once before its products. On a GPU the logit is rounded as well
// (head.h): by 2^-9 of its size, which is about the scale, and so is the probability.
Tolerance gradient_tolerance(const Setting& setting, const HeadCase& k) {
  const double rounded_logit = setting.device == DeviceKind::cpu ? 0 : k.scale / 512;
  return {1e-12, 3e-6, std::max(6e-3, rounded_logit)};
}

struct HeadData {
  Values hidden, weight, rows, labels, weights, before;
  HeadData(const HeadCase& k, Random& random)
      : hidden(random.normals(k.tokens * k.hidden, k.scale)),
        weight(random.normals(k.vocab * k.hidden, 1 / std::sqrt(static_cast<double>(k.hidden)))),
        weights(random.normals(k.labelled)),
        before(random.normals(k.vocab * k.hidden)) {
    // Distinct rows in a scattered order: 7 is prime to every number of tokens here but 7 itself, where 3 is.
    const int64_t stride = k.tokens % 7 == 0 ? 3 : 7;
    for (int64_t l = 0; l < k.labelled; ++l) {
      rows.push_back(static_cast<double>(l * stride % k.tokens));
      labels.push_back(static_cast<double>(random.below(k.vocab)));
    }
    if (k.labelled > 1) labels[0] = 0, labels[1] = static_cast<double>(k.vocab - 1);
  }
};

struct Built {
  TensorId hidden, weight, rows, labels, labelled;
};
Built build(OpCase& c, const HeadCase& k, const HeadData& d) {
  const TensorId labelled = c.count(k.labelled);
  return {c.tensor("hidden", {k.capacity, k.hidden}, d.hidden, c.count(k.tokens)),
          c.tensor("weight", {k.vocab, k.hidden}, d.weight),
          c.integers("rows", {k.label_capacity}, d.rows, labelled),
          c.integers("labels", {k.label_capacity}, d.labels, labelled), labelled};
}

ops::HeadLossOperands loss_operands(OpCase& c, const HeadCase& k, const HeadData& d, const Built& in,
                                    const Values& sums) {
  ops::HeadLossOperands o{
      .hidden = in.hidden, .weight = in.weight, .label_rows = in.rows, .labels = in.labels};
  o.row_weights = c.typed("row_weights", DType::f32, {k.label_capacity}, d.weights, in.labelled);
  o.sums = c.typed("sums", DType::f64, {4}, sums);
  return o;
}

void for_each_case(const std::function<void(const HeadCase&, const HeadData&)>& f) {
  uint64_t seed = 800;
  for (const HeadCase& k : cases()) {
    SCOPED_TRACE(k.name);
    Random random(++seed);
    set_head_chunk_rows_for_tests(k.chunk);
    f(k, HeadData(k, random));
  }
  set_head_chunk_rows_for_tests(0);
}

// On a GPU logits are rounded to bf16 (head.h).
Tolerance sum_tolerance(const Setting& setting) {
  return {1e-12, 1e-6, setting.device == DeviceKind::cpu ? 1e-6 : 4e-3};
}

TEST(Head, LossAndItsGradient) {
  for_each_case([](const HeadCase& k, const HeadData& d) {
    const HeadReference want(k, d.hidden, d.weight, d.rows, d.labels, d.weights, d.before);
    Values sums = {10, 20, 30, 40};
    for (size_t l = 0; l < want.nll.size(); ++l) {
      sums[0] += d.weights[l] * want.nll[l];
      sums[1] += want.nll[l];
      sums[2] += want.correct[l];
      sums[3] += 1;
    }
    for_each_setting([&](const Setting& setting) {
      for (const bool trains : {false, true}) {
        OpCase c(setting);
        const Built in = build(c, k, d);
        ops::HeadLossOperands o = loss_operands(c, k, d, in, {10, 20, 30, 40});
        if (trains) o.weight_gradient = c.typed("d_weight", setting.wide(), {k.vocab, k.hidden}, d.before);
        o.wants_gradient = true;
        ops::head_loss(c.b(), "head", o);
        c.derive({}, {0});
        c.run();
        c.expect_near(c.gradient(0), want.d_hidden, gradient_tolerance(setting, k));
        c.expect_near(o.sums, sums, sum_tolerance(setting));
        if (trains) c.expect_near(o.weight_gradient, want.d_weight, gradient_tolerance(setting, k));
      }
    });
  });
}

TEST(Head, EvaluationGivesTheSameSumsWithoutGradient) {
  for_each_case([](const HeadCase& k, const HeadData& d) {
    for_each_setting([&](const Setting& setting) {
      Values sums[2];
      for (const bool gradient : {false, true}) {
        OpCase c(setting);
        const Built in = build(c, k, d);
        ops::HeadLossOperands o = loss_operands(c, k, d, in, {0, 0, 0, 0});
        o.wants_gradient = gradient;
        ops::head_loss(c.b(), "head", o);
        EXPECT_EQ(c.program().calls[0].outputs[0] != kNone, gradient);
        c.run();
        sums[gradient ? 1 : 0] = c.get(o.sums);
      }
      EXPECT_EQ(sums[0], sums[1]);
    });
  });
}

TEST(Head, LogProbabilitiesAndTheirBackward) {
  for_each_case([](const HeadCase& k, const HeadData& d) {
    // d logprob = one_hot - softmax: minus the gradient of the nll.
    Values negated = d.weights, logprobs;
    for (double& g : negated) g = -g;
    const HeadReference want(k, d.hidden, d.weight, d.rows, d.labels, negated, d.before);
    for (const double nll : want.nll) logprobs.push_back(-nll);
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const Built in = build(c, k, d);
      const TensorId out = ops::head_logprobs(c.b(), "head", in.hidden, in.weight, in.rows, in.labels);
      c.derive({{0, d.weights}}, {0}, {{1, d.before}});
      c.run();
      c.expect_near(out, logprobs, sum_tolerance(setting));
      c.expect_near(c.gradient(0), want.d_hidden, gradient_tolerance(setting, k));
      c.expect_near(c.parameter_gradient(1), want.d_weight, gradient_tolerance(setting, k));
    });
  });
}

// Whoever takes the rows and the segments of the vocabulary.
TEST(Head, SameBitsOnAnyNumberOfThreads) {
  const HeadCase k{"", 110, 110, 9, 33000, 107, 110};
  Random random(850);
  const HeadData d(k, random);
  for (const CpuIsa isa : testable_cpu_isas()) {
    if (isa < CpuIsa::avx512_bf16) continue;
    set_cpu_isa(isa);
    SCOPED_TRACE(name_of(isa));
    Values sums, gradient;
    for (const int threads : {1, 2, 3, 16}) {
      set_num_threads(threads);
      OpCase c({DeviceKind::cpu, DType::bf16, isa, threads, false});
      const Built in = build(c, k, d);
      const ops::HeadLossOperands o = loss_operands(c, k, d, in, {0, 0, 0, 0});
      ops::head_loss(c.b(), "head", o);
      c.derive({}, {0});
      c.run();
      if (threads == 1) sums = c.get(o.sums), gradient = c.get(c.gradient(0));
      EXPECT_EQ(c.get(o.sums), sums) << threads << " threads";
      EXPECT_EQ(c.get(c.gradient(0)), gradient) << threads << " threads";
    }
  }
  set_cpu_isa(best_cpu_isa());
  set_num_threads(0);
}

TEST(Head, NotANumberStaysInItsRowAndInTheLoss) {
  const HeadCase k{"", 20, 20, 33, 70, 20, 20};
  Random random(851);
  HeadData d(k, random);
  const size_t row = 4, at = row * static_cast<size_t>(k.hidden);
  for_each_setting([&](const Setting& setting) {
    if (setting.device != DeviceKind::cpu) return;
    for (const double broken : {std::nan(""), HUGE_VAL}) {
      d.hidden[at] = broken;
      OpCase c(setting);
      const Built in = build(c, k, d);
      const ops::HeadLossOperands o = loss_operands(c, k, d, in, {0, 0, 0, 0});
      ops::head_loss(c.b(), "head", o);
      c.derive({}, {0});
      c.run();
      EXPECT_FALSE(std::isfinite(c.get(o.sums)[1]));
      const Values gradient = c.get(c.gradient(0));
      for (size_t i = 0; i < gradient.size(); ++i)
        ASSERT_EQ(std::isfinite(gradient[i]), i / static_cast<size_t>(k.hidden) != row) << i;
    }
  });
}

// A batch may have fewer labelled rows than the plan has room for, and then larger chunks.
TEST(Head, TheWorkspaceHoldsAnyNumberOfRowsUpToTheCapacity) {
  for (const bool tiles : {false, true}) {
    for (const int64_t vocab_size : {768, 50000, 151936}) {
      for (const int64_t capacity : {1, 15, 400, 1000, 1024, 1100, 2500}) {
        const int64_t most = head_most_chunk_rows(vocab_size, capacity, tiles);
        for (int64_t rows = 0; rows <= capacity; ++rows) {
          const int64_t chunk = head_chunk_rows(vocab_size, rows, tiles);
          ASSERT_LE(chunk, most) << rows << " of " << capacity;
          ASSERT_GE(chunk, 1);
        }
      }
    }
  }
}

TEST(Head, Logits) {
  for_each_case([](const HeadCase& k, const HeadData& d) {
    const HeadReference want(k, d.hidden, d.weight, d.rows, d.labels, d.weights, d.before);
    for_each_setting([&](const Setting& setting) {
      OpCase c(setting);
      const Built in = build(c, k, d);
      const TensorId out = ops::logits(c.b(), "head", in.hidden, in.weight, in.rows);
      c.run();
      c.expect_near(out, want.logits, {1e-13, 1e-6, 1e-6});
    });
  });
}

}  // namespace
}  // namespace serval::testing
