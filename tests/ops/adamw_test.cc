#include "ops/adamw/adamw.h"

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

}  // namespace
}  // namespace serval::testing
