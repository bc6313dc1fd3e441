#include "ops/adamw_8bit/adamw_8bit.h"

#include "base/philox.h"
#include "ops/adamw/rounding.h"
#include "ops/adamw_8bit/dynamic_map.h"
#include "ops/op_case.h"
#include "support/fixture_tensors.h"
#include "support/test_data.h"

namespace serval::testing {
namespace {

using Values = std::vector<double>;

const ops::AdamWSettings kSettings{0.9, 0.95, 1e-8, 0.1};
constexpr double kRate = 1e-2, kFactor = 0.5;

TEST(DynamicMap, IsThatOfBitsandbytes) {
  const auto tensors = read_tensors(fixture("optim/adam8bit.safetensors"));
  for (const auto& [name, map] : {std::pair{"signed_map", &kSignedMap}, {"unsigned_map", &kUnsignedMap}})
    EXPECT_EQ(std::vector<float>(map->values, map->values + 256), tensors.at(name).values) << name;
}

TEST(DynamicMap, NearestOfAllCodes) {
  for (const DynamicMap* map : {&kSignedMap, &kUnsignedMap}) {
    for (uint32_t bits = 0; bits <= 0x3f800000u; bits += 49999) {
      for (const float sign : {1.0f, -1.0f}) {
        const float x = sign * __builtin_bit_cast(float, bits);
        if (sign < 0 && !map->is_signed) continue;
        double least = 9;
        for (const float value : map->values)
          least = std::min(least, std::abs(static_cast<double>(value) - static_cast<double>(x)));
        const auto got = static_cast<double>(map->values[nearest_code(*map, x)]);
        ASSERT_LE(std::abs(got - static_cast<double>(x)), least * (1 + 1e-6) + 1e-12) << x;
      }
    }
  }
}

// Moments as a kernel keeps them.
struct State {
  Values codes, absmax;
  Values values(const DynamicMap& map, int64_t count) const {
    Values v(static_cast<size_t>(count));
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = static_cast<double>(map.values[static_cast<size_t>(codes[i])]) * absmax[i / 256];
    return v;
  }
};

State random_state(Random& random, int64_t count, double scale) {
  const int64_t blocks = ops::moment_blocks(count);
  State s{Values(static_cast<size_t>(256 * blocks)), random.normals(blocks, scale)};
  for (double& code : s.codes) code = static_cast<double>(random.below(256));
  for (double& x : s.absmax) x = std::abs(x) + 1e-3 * scale;
  return s;
}
State zero_state(int64_t count) {
  const auto blocks = static_cast<size_t>(ops::moment_blocks(count));
  return {Values(256 * blocks, 0.0), Values(blocks, 0.0)};
}

// Operands of a tensor from values; the gradient lies densely, rows of the parameter perhaps apart.
ops::AdamW8bitOperands declare(OpCase& c, const std::string& name, TensorId parameter, const Shape& shape,
                               const Values& gradient, const State& m, const State& v) {
  const auto state = [&](const char* what, DType dtype, const Values& values) {
    return c.typed(what + name, dtype, {static_cast<int64_t>(values.size())}, values);
  };
  return {.parameter = parameter,
          .m_codes = state("m", DType::u8, m.codes),
          .m_absmax = state("m_absmax", DType::f32, m.absmax),
          .v_codes = state("v", DType::u8, v.codes),
          .v_absmax = state("v_absmax", DType::f32, v.absmax),
          .gradient = c.typed("g" + name, DType::f32, shape, gradient)};
}
TensorId hyper(OpCase& c, int step, double rate = kRate) {
  return c.typed("hyper", DType::f64, {2}, {rate, static_cast<double>(step)});
}
TensorId stats(OpCase& c, double factor = kFactor) {
  return c.typed("stats", DType::f64, {2}, {3, factor});
}

// The step in f64 from the values that the codes stand for.
void reference_step(const ops::AdamWSettings& s, double rate, double factor, int t, const Values& gradient,
                    Values& p, Values& m, Values& v) {
  for (size_t i = 0; i < p.size(); ++i) {
    const double g = gradient[i] * factor;
    p[i] *= 1 - rate * s.weight_decay;
    m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
    v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
    p[i] -= rate / (1 - std::pow(s.beta1, t)) * m[i] /
            (std::sqrt(v[i]) / std::sqrt(1 - std::pow(s.beta2, t)) + s.eps);
  }
}

// Each code is as near to the exact moment as any; elements past the end are zeros.
void expect_nearest(const DynamicMap& map, const State& got, const Values& want) {
  const int zero = map.is_signed ? DynamicMap::kZero : 0;
  for (size_t block = 0; block < got.absmax.size(); ++block) {
    double absmax = 0;
    const size_t begin = 256 * block, end = std::min(want.size(), begin + 256);
    for (size_t i = begin; i < end; ++i) absmax = std::max(absmax, std::abs(want[i]));
    ASSERT_NEAR(got.absmax[block], absmax, 1e-6 * absmax) << "block " << block;
    for (size_t i = begin; i < begin + 256; ++i) {
      if (i >= end || absmax == 0) {
        ASSERT_EQ(got.codes[i], zero) << i;
        continue;
      }
      const double x = want[i] / absmax;
      double least = 9;
      for (const float value : map.values) least = std::min(least, std::abs(static_cast<double>(value) - x));
      const auto value = static_cast<double>(map.values[static_cast<size_t>(got.codes[i])]);
      ASSERT_LE(std::abs(value - x), least + 2e-6 * std::abs(x) + 1e-9) << i;
    }
  }
}

// Sizes around the borders of blocks and packs, in rows that may be apart.
TEST(AdamW8bit, ThreeStepsAgainstF64) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 85}, Shape{16, 16}, Shape{1, 257}, Shape{2, 511},
                             Shape{40, 256}, Shape{7, 5003}, Shape{129, 260}}) {
    for_each_setting([&](const Setting& setting) {
      if (setting.dtype == DType::f64) return;
      SCOPED_TRACE(to_string(shape));
      const int64_t count = shape.elements();
      Random random(1000);
      Values p = random.normals(count);
      State m = random_state(random, count, 0.1), v = random_state(random, count, 0.1);
      for (int t = 1; t <= 3; ++t) {
        const Values g = random.normals(count);
        OpCase c(setting);
        const auto o = declare(c, "", c.tensor("p", shape, p), shape, g, m, v);
        ops::adamw_8bit(c.b(), "adamw_8bit", {o}, hyper(c, t), stats(c), kSettings);
        c.run();
        Values exact_m = m.values(kSignedMap, count), exact_v = v.values(kUnsignedMap, count);
        reference_step(kSettings, kRate, kFactor, t, g, p, exact_m, exact_v);
        c.expect_near(o.parameter, p, {0, 5e-7, 3e-3});
        c.expect_near(o.gradient, Values(p.size(), 0.0), {});
        if (setting.dtype == DType::bf16) {
          const Values got = c.get(o.parameter);
          for (size_t i = 0; i < p.size(); ++i)  // rounded to nearest: off by half a step of bf16 at most
            ASSERT_LE(std::abs(got[i] - p[i]), 0.5 * 0x1p-7 * std::abs(p[i]) + 1e-6) << i;
        }
        m = {c.get(o.m_codes), c.get(o.m_absmax)}, v = {c.get(o.v_codes), c.get(o.v_absmax)};
        expect_nearest(kSignedMap, m, exact_m);
        expect_nearest(kUnsignedMap, v, exact_v);
        p = c.get(o.parameter);  // the next step starts from what the kernel wrote
      }
    });
  }
}

// Rows apart that can be read in packs, as an adapter's beside its weight.
TEST(AdamW8bit, RowsOfAWiderTensor) {
  for_each_setting([&](const Setting& setting) {
    if (setting.dtype == DType::f64) return;
    const Shape shape{64, 24};
    const auto run = [&](bool apart) {
      Random random(1010);
      const int64_t count = shape.elements();
      const Values p = random.normals(count), g = random.normals(count);
      OpCase c(setting);
      TensorId parameter = kNone;
      if (apart) {
        Values wide(static_cast<size_t>(64 * 32), 7.0);
        for (size_t i = 0; i < p.size(); ++i) wide[i / 24 * 32 + 8 + i % 24] = p[i];
        parameter = c.b().columns(c.typed("p", setting.dtype, {64, 32}, wide), 8, 24);
      } else {
        parameter = c.typed("p", setting.dtype, shape, p);
      }
      const auto o = declare(c, "", parameter, shape, g, zero_state(count), zero_state(count));
      ops::adamw_8bit(c.b(), "adamw_8bit", {o}, hyper(c, 1), stats(c), kSettings);
      c.run();
      return std::pair{c.get(o.parameter), c.get(o.m_codes)};
    };
    EXPECT_EQ(run(true), run(false));
  });
}

TEST(AdamW8bit, ZeroAndTinyGradients) {
  for_each_setting([&](const Setting& setting) {
    if (setting.dtype == DType::f64) return;
    constexpr int64_t kCount = 5 * 256;
    Values g(kCount, 0.0);  // a block each of zeros, of one tiny number, of tiny ones, of one large, of zeros
    g[300] = 1e-30;
    for (size_t i = 512; i < 768; ++i) g[i] = 1e-21;
    g[800] = -1e10;
    OpCase c(setting);
    const auto o = declare(c, "", c.typed("p", setting.dtype, {kCount}, Values(kCount, 1.0)), {kCount}, g,
                           zero_state(kCount), zero_state(kCount));
    ops::adamw_8bit(c.b(), "adamw_8bit", {o}, hyper(c, 1), stats(c, 1), {0.9, 0.95, 1e-8, 0});
    c.run();
    const Values p = c.get(o.parameter), m = c.get(o.m_codes), v = c.get(o.v_codes);
    for (size_t i = 0; i < p.size(); ++i) {
      ASSERT_NEAR(p[i], i == 800 ? 1 + kRate : 1.0, setting.dtype == DType::bf16 ? 4e-3 : 1e-6) << i;
      if (g[i] == 0) {
        ASSERT_EQ(m[i], DynamicMap::kZero) << i;
        ASSERT_EQ(v[i], 0) << i;
      }
    }
    EXPECT_EQ(m[800], 0);  // -0.99: the map has no -1
    EXPECT_EQ(v[800], 255);
    EXPECT_EQ(c.get(o.m_absmax)[0], 0);
  });
}

// The word of each element decides, and nothing else: against the step of the same numbers in f32.
TEST(AdamW8bit, StochasticRounding) {
  for_each_setting([&](const Setting& setting) {
    if (setting.dtype != DType::bf16) return;
    const Shape shape{37, 301};
    const int64_t count = shape.elements();
    const uint64_t stream = stable_hash("layer.weight");
    const auto run = [&](DType dtype, int64_t seed, int64_t step) {
      Setting own = setting;
      own.dtype = dtype;
      Random random(1020);
      const Values p = random.normals(count);
      Values g = random.normals(count);
      for (double& x : g) x = std::abs(x);
      OpCase c(own);
      auto o = declare(c, "", c.tensor("p", shape, p), shape, g, zero_state(count), zero_state(count));
      o.stream = stream;
      const TensorId words = c.integers(
          "random", {3}, {static_cast<double>(seed), static_cast<double>(step), 0}, kNone, DType::i64);
      ops::adamw_8bit(c.b(), "adamw_8bit", {o}, hyper(c, 1, 1e-4), stats(c), kSettings, words);
      c.run();
      return c.get(o.parameter);
    };
    const Values exact = run(DType::f32, 5, 9), rounded = run(DType::bf16, 5, 9);
    EXPECT_EQ(rounded, run(DType::bf16, 5, 9));
    EXPECT_NE(rounded, run(DType::bf16, 6, 9));
    EXPECT_NE(rounded, run(DType::bf16, 5, 10));
    const PhiloxKey key = philox_key(5, stream, 9, 0);
    double drift = 0, squares = 0, way = 0;
    int64_t others = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      BFloat16 want;
      want.bits = bf16_bits_stochastic(static_cast<float>(exact[i]), for_weight(philox_u32(key, i)));
      // A compiler may join other products and sums where it stores another type.
      if (rounded[i] != static_cast<double>(static_cast<float>(want))) ++others;
      ASSERT_LE(std::abs(rounded[i] - exact[i]), 0x1p-7 * std::abs(exact[i])) << i;
      drift += rounded[i] - exact[i];
      squares += (rounded[i] - exact[i]) * (rounded[i] - exact[i]);
      way += 1e-4;
    }
    EXPECT_LE(others, count / 1000);
    // All go the same way by 1e-4, less than half a step of bf16; on average they arrive.
    EXPECT_LT(std::abs(drift), 4 * std::sqrt(squares));
    EXPECT_LT(4 * std::sqrt(squares), way);
  });
}

// More tensors than one launch of a GPU takes, of both types and uneven sizes, some at odd places: each gets
// what a call of its own gives.
TEST(AdamW8bit, ManyTensorsInOneCall) {
  constexpr int kTensors = 450;
  for_each_setting([&](const Setting& setting) {
    if (setting.dtype == DType::f64) return;
    const auto run = [&](OpCase& c, bool together) {
      Random random(1030);
      const TensorId h = hyper(c, 2), s = stats(c);
      std::vector<ops::AdamW8bitOperands> tensors;
      for (int i = 0; i < kTensors; ++i) {
        const int64_t size = i == 200 ? 70001 : 1 + random.below(600), skipped = i % 3;
        const std::string name = std::to_string(i);
        const DType dtype = i % 2 == 0 ? setting.dtype : DType::f32;
        const TensorId whole = c.typed("p" + name, dtype, {size + skipped}, random.normals(size + skipped));
        const State m = random_state(random, size, 0.1), v = random_state(random, size, 0.1);
        tensors.push_back(
            declare(c, name, c.b().rows(whole, skipped, size), {size}, random.normals(size), m, v));
      }
      if (together)
        ops::adamw_8bit(c.b(), "adamw_8bit", tensors, h, s, kSettings);
      else
        for (const auto& o : tensors) ops::adamw_8bit(c.b(), "adamw_8bit", {o}, h, s, kSettings);
      c.run();
      return tensors;
    };
    OpCase one(setting), many(setting);
    const auto tensors = run(one, true);
    run(many, false);
    for (const auto& o : tensors)
      for (const TensorId id : {o.parameter, o.m_codes, o.m_absmax, o.v_codes, o.v_absmax, o.gradient})
        ASSERT_EQ(one.get(id), many.get(id)) << one.program().tensor(id).name;
  });
}

// Formulas of tests/reference/make_adam8bit_fixture.py.
float formula(int64_t i, int64_t a, int64_t b) {
  return static_cast<float>((i * a + b) % 2003 - 1001) / 1024;
}
float formula_gradient(int64_t i, bool even, int64_t step) {
  const float x = formula(i, 7919, 104729 * step);
  if (!even) return x * x * x;
  return x < 0 ? x / 2 - 0.5f : x / 2 + 0.5f;
}

// How far weights of steps 1 and 10 may be from those of bitsandbytes on the CPU, as a share of the way they
// went. Its table of codes is coarse (see the script), which `wide` gradients meet; bf16 weights may differ
// by a step where the update is near half of one.
double tolerance_of(const std::string& name) {
  return name.ends_with("f32") ? 2e-3 : 1e-2;
}

TEST(AdamW8bit, WeightsOfBitsandbytes) {
  const auto tensors = read_tensors(fixture("optim/adam8bit.safetensors"));
  const Json facts = Json::parse(read_file(fixture("optim/adam8bit.json")), "adam8bit.json");
  const ops::AdamWSettings settings{facts.at("betas").as_array()[0].as_double(),
                                    facts.at("betas").as_array()[1].as_double(), facts.at("eps").as_double(),
                                    facts.at("weight_decay").as_double()};
  const double rate = facts.at("lr").as_double();
  for (const Json& item : facts.at("cases").as_array()) {
    const std::string name = item.at("name").as_string();
    const bool bf16 = item.at("bf16").as_bool(), even = item.at("kind").as_string() == "even",
               eight_bits = item.at("eight_bits").as_bool();
    const int64_t count = item.at("count").as_int();
    for_each_setting([&](const Setting& setting) {
      if (setting.dtype != (bf16 ? DType::bf16 : DType::f32) || setting.strided) return;
      SCOPED_TRACE(name);
      const auto to_type = [&](float x) {
        return static_cast<double>(bf16 ? static_cast<float>(BFloat16(x)) : x);
      };
      Values start(static_cast<size_t>(count)), g = start, wide_m(start.size(), 0.0), wide_v = wide_m;
      for (int64_t i = 0; i < count; ++i) start[static_cast<size_t>(i)] = to_type(formula(i, 31, 7));
      Values p = start;
      State m = zero_state(count), v = zero_state(count);
      for (int t = 1; t <= static_cast<int>(facts.at("steps").as_int()); ++t) {
        for (int64_t i = 0; i < count; ++i) g[static_cast<size_t>(i)] = to_type(formula_gradient(i, even, t));
        OpCase c(setting);
        const TensorId parameter = c.typed("p", setting.dtype, {count}, p), h = hyper(c, t, rate),
                       s = stats(c, 1);
        if (eight_bits) {
          const auto o = declare(c, "", parameter, {count}, g, m, v);
          ops::adamw_8bit(c.b(), "adamw_8bit", {o}, h, s, settings);
          c.run();
          m = {c.get(o.m_codes), c.get(o.m_absmax)}, v = {c.get(o.v_codes), c.get(o.v_absmax)};
        } else {
          const ops::AdamWOperands o{parameter, c.typed("m", DType::f32, {count}, wide_m),
                                     c.typed("v", DType::f32, {count}, wide_v),
                                     c.typed("g", DType::f32, {count}, g)};
          ops::adamw(c.b(), "adamw", o, h, s, settings);
          c.run();
          wide_m = c.get(o.m), wide_v = c.get(o.v);
        }
        p = c.get(parameter);
        const auto it = tensors.find(name + "." + std::to_string(t));
        if (it == tensors.end()) continue;
        double difference = 0, way = 0;
        for (size_t i = 0; i < p.size(); ++i) {
          const auto want = static_cast<double>(it->second.values[i]);
          difference += (p[i] - want) * (p[i] - want);
          way += (want - start[i]) * (want - start[i]);
        }
        EXPECT_LE(std::sqrt(difference / way), tolerance_of(name)) << "step " << t;
      }
    });
  }
}

}  // namespace
}  // namespace serval::testing
