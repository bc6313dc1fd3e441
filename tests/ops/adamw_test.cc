#include "ops/adamw/adamw.h"

#include <array>
#include <limits>

#include "base/philox.h"
#include "ops/adamw/rounding.h"
#include "ops/op_case.h"

namespace serval::testing {
namespace {

using Values = std::vector<double>;

TEST(GradientNorm, NormOfAllGradientsAndTheClipFactor) {
  // Sizes around the block of 16384 elements.
  const std::vector<int64_t> sizes = {1, 7, 16384, 16385, 40001};
  for (const double max_norm : {0.0, 0.5, 1e6}) {
    for_each_setting([&](const Setting& setting) {
      if (setting.dtype == DType::bf16) return;  // gradients are wide
      OpCase c(setting);
      Random random(900);
      std::vector<TensorId> gradients;
      double squares = 0;
      for (const int64_t size : sizes) {
        const Values g = random.normals(size);
        for (const double v : g) squares += v * v;
        gradients.push_back(c.typed("g" + std::to_string(size), setting.dtype, {size}, g));
      }
      const TensorId stats = c.typed("stats", DType::f64, {2}, {-1, -1});
      ops::gradient_norm(c.b(), "norm", gradients, max_norm, stats);
      c.run();
      const double norm = std::sqrt(squares),
                   factor = max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1;
      EXPECT_NEAR(c.get(stats)[0], norm, 1e-12 * norm);
      EXPECT_NEAR(c.get(stats)[1], factor, 1e-12);
    });
  }
}

// torch.optim.AdamW's formula in f64, over three steps from the same state.
TEST(AdamW, ThreeSteps) {
  for (const int64_t size : {1, 33, 20011}) {
    for_each_setting([&](const Setting& setting) {
      const bool copies = setting.dtype == DType::bf16;
      const DType wide = setting.wide();
      const double lr = 1e-2, decay = 0.1, b1 = 0.9, b2 = 0.95, eps = 1e-8, factor = 0.5;
      Random random(950);
      Values p = random.normals(size), m = random.normals(size, 0.1), v = random.normals(size, 0.1);
      for (double& x : v) x = std::abs(x);
      for (int t = 1; t <= 3; ++t) {
        const Values g = random.normals(size);
        OpCase c(setting);
        ops::AdamWOperands o{c.typed("p", wide, {size}, p), c.typed("m", wide, {size}, m),
                             c.typed("v", wide, {size}, v), c.typed("g", wide, {size}, g)};
        if (copies) o.copy = c.typed("copy", DType::bf16, {size}, Values(static_cast<size_t>(size), 0.0));
        ops::adamw(c.b(), "adamw", o, c.typed("hyper", DType::f64, {2}, {lr, static_cast<double>(t)}),
                   c.typed("stats", DType::f64, {2}, {3, factor}), {b1, b2, eps, decay});
        c.run();
        for (size_t i = 0; i < p.size(); ++i) {
          const double grad = g[i] * factor;
          p[i] *= 1 - lr * decay;
          m[i] = b1 * m[i] + (1 - b1) * grad;
          v[i] = b2 * v[i] + (1 - b2) * grad * grad;
          p[i] -=
              lr / (1 - std::pow(b1, t)) * m[i] / (std::sqrt(v[i]) / std::sqrt(1 - std::pow(b2, t)) + eps);
        }
        const Tolerance tolerance{1e-14, 5e-7, 5e-7};
        c.expect_near(o.parameter, p, tolerance);
        c.expect_near(o.m, m, tolerance);
        c.expect_near(o.v, v, tolerance);
        c.expect_near(o.gradient, Values(p.size(), 0.0), {});
        if (copies) {
          // Exactly the parameter, rounded once.
          Values rounded = c.get(o.parameter);
          for (double& x : rounded)
            x = static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(x))));
          EXPECT_EQ(c.get(o.copy), rounded);
        }
        // The next step starts from what the kernel wrote.
        p = c.get(o.parameter), m = c.get(o.m), v = c.get(o.v);
      }
    });
  }
}

// Parameters and moments in bf16: the step in f64 from what they hold, each then rounded once.
TEST(AdamW, Bf16ParametersAndMoments) {
  const double lr = 1e-2, decay = 0.1, b1 = 0.9, b2 = 0.95, eps = 1e-8, factor = 0.5;
  for (const Shape& shape : {Shape{1, 1}, Shape{11, 3}, Shape{29, 690}, Shape{16, 256}}) {
    for (const DType moments : {DType::f32, DType::bf16}) {
      for_each_setting([&](const Setting& setting) {
        if (setting.dtype == DType::f64) return;
        const int64_t size = shape.elements();
        Random random(955);
        Values p = random.normals(size), m = random.normals(size, 0.1), v = random.normals(size, 0.1);
        for (double& x : v) x = std::abs(x);
        for (int t = 1; t <= 3; ++t) {
          const Values g = random.normals(size);
          OpCase c(setting);
          const ops::AdamWOperands o{c.tensor("p", shape, p), c.typed("m", moments, shape, m),
                                     c.typed("v", moments, shape, v), c.typed("g", DType::f32, shape, g)};
          ops::adamw(c.b(), "adamw", o, c.typed("hyper", DType::f64, {2}, {lr, static_cast<double>(t)}),
                     c.typed("stats", DType::f64, {2}, {3, factor}), {b1, b2, eps, decay});
          c.run();
          for (size_t i = 0; i < p.size(); ++i) {
            const double grad = g[i] * factor;
            m[i] = b1 * m[i] + (1 - b1) * grad;
            v[i] = b2 * v[i] + (1 - b2) * grad * grad;
            p[i] = p[i] * (1 - lr * decay) - lr / (1 - std::pow(b1, t)) * m[i] /
                                                 (std::sqrt(v[i]) / std::sqrt(1 - std::pow(b2, t)) + eps);
          }
          const auto expect_rounded = [&](TensorId id, const Values& want) {
            const Values got = c.get(id);
            const double half = c.program().tensor(id).dtype == DType::bf16 ? 0x1p-8 : 0;
            for (size_t i = 0; i < want.size(); ++i)
              ASSERT_LE(std::abs(got[i] - want[i]), half * std::abs(want[i]) + 1e-6) << i;
          };
          expect_rounded(o.parameter, p);
          expect_rounded(o.m, m);
          expect_rounded(o.v, v);
          c.expect_near(o.gradient, Values(p.size(), 0.0), {});
          p = c.get(o.parameter), m = c.get(o.m), v = c.get(o.v);
        }
      });
    }
  }
}

// Against the same step in f32, whose results are rounded by the words of their elements.
TEST(AdamW, StochasticRounding) {
  for_each_setting([&](const Setting& setting) {
    if (setting.dtype != DType::bf16) return;
    const Shape shape{23, 333};
    const int64_t size = shape.elements();
    const uint64_t stream = stable_hash("layer.weight");
    const auto run = [&](DType parameters, DType moments) {
      Setting own = setting;
      own.dtype = parameters;
      Random random(965);
      const Values p = random.normals(size), g = random.normals(size);
      OpCase c(own);
      const ops::AdamWOperands o{.parameter = c.tensor("p", shape, p),
                                 .m = c.typed("m", moments, shape, Values(p.size(), 0.5)),
                                 .v = c.typed("v", moments, shape, Values(p.size(), 0.5)),
                                 .gradient = c.typed("g", DType::f32, shape, g),
                                 .stream = stream};
      ops::adamw(c.b(), "adamw", o, c.typed("hyper", DType::f64, {2}, {1e-4, 1}),
                 c.typed("stats", DType::f64, {2}, {3, 1}), {},
                 c.integers("random", {3}, {5, 9, 0}, kNone, DType::i64));
      c.run();
      return std::array{c.get(o.parameter), c.get(o.m), c.get(o.v)};
    };
    const auto exact = run(DType::f32, DType::f32);
    const PhiloxKey key = philox_key(5, stream, 9, 0);
    for (const DType parameters : {DType::f32, DType::bf16}) {
      for (const DType moments : {DType::f32, DType::bf16}) {
        const auto got = run(parameters, moments);
        EXPECT_EQ(got, run(parameters, moments));
        int64_t others = 0;
        for (size_t i = 0; i < exact[0].size(); ++i) {
          const uint32_t word = philox_u32(key, i);
          const auto stochastic = [&](double x, uint32_t random) {
            BFloat16 rounded;
            rounded.bits = bf16_bits_stochastic(static_cast<float>(x), random);
            return static_cast<double>(static_cast<float>(rounded));
          };
          const auto nearest = [](double x) {
            return static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(x))));
          };
          const bool narrow = moments == DType::bf16;
          const std::array want{
              parameters == DType::bf16 ? stochastic(exact[0][i], for_weight(word)) : exact[0][i],
              narrow ? nearest(exact[1][i]) : exact[1][i],
              narrow ? stochastic(exact[2][i], for_second_moment(word)) : exact[2][i]};
          for (size_t k = 0; k < 3; ++k) {
            // A compiler may join other products and sums where it stores another type.
            if (got[k][i] != want[k]) ++others;
            ASSERT_LE(std::abs(got[k][i] - exact[k][i]), 0x1p-7 * std::abs(exact[k][i])) << k << ' ' << i;
          }
        }
        EXPECT_LE(others, size / 1000);
      }
    }
  });
}

TEST(AdamW, StochasticRoundingKeepsWhatIsNotFinite) {
  for (const float x : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    BFloat16 rounded;
    rounded.bits = bf16_bits_stochastic(x, 0xffff);
    EXPECT_EQ(static_cast<float>(rounded), x);
  }
  for (const uint32_t bits : {0x7fffffffu, 0x7f800001u, 0xffffffffu}) {
    BFloat16 rounded;
    rounded.bits = bf16_bits_stochastic(__builtin_bit_cast(float, bits), 0xffff);
    EXPECT_TRUE(std::isnan(static_cast<float>(rounded)));
  }
}

// More tensors than one launch of a GPU takes, of uneven sizes, with and without a copy, some from an odd
// offset: each gets what a call of its own gives.
TEST(AdamW, ManyTensorsInOneCall) {
  constexpr int kTensors = 1100;
  for_each_setting([&](const Setting& setting) {
    const DType wide = setting.wide();
    const auto build = [&](OpCase& c, bool together) {
      Random random(970);
      const TensorId hyper = c.typed("hyper", DType::f64, {2}, {1e-2, 2}),
                     stats = c.typed("stats", DType::f64, {2}, {3, 0.5});
      std::vector<ops::AdamWOperands> tensors;
      for (int i = 0; i < kTensors; ++i) {
        const std::string name = std::to_string(i);
        const int64_t size = i == 500 ? 9001 : 1 + random.below(40), skipped = i % 3;
        const auto part = [&](const char* what, DType dtype, double factor) {
          Values values = random.normals(size + skipped, factor);
          for (double& x : values) x = std::abs(x);
          return c.b().rows(c.typed(what + name, dtype, {size + skipped}, values), skipped, size);
        };
        ops::AdamWOperands o{part("p", wide, 1), part("m", wide, 0.1), part("v", wide, 0.1),
                             part("g", wide, 1)};
        if (setting.dtype == DType::bf16 && i % 2 == 0) o.copy = part("copy", DType::bf16, 1);
        tensors.push_back(o);
      }
      const ops::AdamWSettings settings{0.9, 0.95, 1e-8, 0.1};
      if (together)
        ops::adamw(c.b(), "adamw", tensors, hyper, stats, settings);
      else
        for (const auto& o : tensors) ops::adamw(c.b(), "adamw", o, hyper, stats, settings);
      c.run();
      return tensors;
    };
    OpCase one(setting), many(setting);
    const auto tensors = build(one, true);
    build(many, false);
    for (const auto& o : tensors) {
      for (const TensorId id : {o.parameter, o.m, o.v, o.gradient, o.copy}) {
        if (id == kNone) continue;
        ASSERT_EQ(one.get(id), many.get(id)) << one.program().tensor(id).name;
      }
    }
  });
}

TEST(AdamW, OneCallForAllTensorsOfOneSetting) {
  Program program;
  ProgramBuilder b(program);
  const auto state = [&](const char* name, int64_t size) {
    return b.state(name, DType::f32, {size}, Role::optimizer);
  };
  const std::vector<ops::AdamWOperands> tensors = {
      {state("p", 3), state("m", 3), state("v", 3), state("g", 3)},
      {state("q", 5), state("n", 5), state("w", 5), state("h", 5)}};
  ops::adamw(b, "adamw", tensors, b.input("hyper", DType::f64, {2}),
             b.state("stats", DType::f64, {2}, Role::counter), {});
  ASSERT_EQ(program.calls.size(), 1u);
  EXPECT_EQ(cost_of(CallView{program, program.calls[0]}).bytes, 32.0 * 8);
}

}  // namespace
}  // namespace serval::testing
