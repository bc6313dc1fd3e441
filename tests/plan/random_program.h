// Random programs of the real ops for the tests of the passes: views, shared inputs, tensors with several
// readers, frozen and trained parameters, packed documents and a count below the capacity.
#pragma once
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "ops/attention/attention.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/head/head.h"
#include "ops/linear/linear.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/swiglu/swiglu.h"
#include "plan/differentiate.h"
#include "support/program_runner.h"
#include "support/random_values.h"

namespace serval::testing {

struct RandomProgram {
  Program program;  // forward only
  std::vector<ParameterGradient> parameters;
  std::vector<GradientSeed> seeds;  // the loss: sum over seeds of <gradient, tensor>, plus a head's loss
  bool has_loss = false;
  std::map<std::string, std::vector<double>> inputs, states;  // values by name

  void load(ProgramRunner& runner) const {
    for (const auto& [name, values] : inputs) runner.set(name, values);
    for (const auto& [name, values] : states) runner.set(name, values);
  }
};

class RandomProgramMaker {
 public:
  RandomProgramMaker(uint64_t seed, DType dtype) : random_(seed), dtype_(dtype), b_(result_.program) {}

  RandomProgram make() {
    result_.program.name = "random";
    count_ = input("num_tokens", DType::i32, {1}, {static_cast<double>(kTokens)});
    const TensorId documents = input("num_documents", DType::i32, {1}, {4});
    cu_seqlens_ = b_.input("cu_seqlens", DType::i32, {6}, documents);
    result_.inputs["cu_seqlens"] = {0, 4, 4, static_cast<double>(kTokens)};  // one empty document
    const TensorId ids = tokens_input("ids", 7);
    const TensorId positions = tokens_input("positions", 5);
    random_state_ = input("random", DType::i64, {3}, {11, 2, 1});
    const auto table = ops::rope_table(b_, "rope", positions, {1.0, 0.25, 0.1, 0.01}, 1.0, dtype_);
    table_ = table;
    pool_.push_back(ops::embedding(b_, "embed", ids, parameter("embed.weight", {7, 16}, 1)));
    views_ = random_.chance(0.6);
    const int64_t steps = 4 + random_.below(8);
    for (step_ = 0; step_ < steps; ++step_) {
      NameScope scope(b_, "layers." + std::to_string(step_));
      add_step();
    }
    finish();
    return std::move(result_);
  }

 private:
  static constexpr int64_t kTokens = 9, kCapacity = 12;

  TensorId input(const std::string& name, DType dtype, Shape shape, std::vector<double> values) {
    result_.inputs[name] = std::move(values);
    return b_.input(name, dtype, shape);
  }
  TensorId tokens_input(const std::string& name, int64_t limit) {
    std::vector<double> values;
    for (int64_t i = 0; i < kTokens; ++i) values.push_back(static_cast<double>(random_.below(limit)));
    result_.inputs[name] = values;
    return b_.input(name, DType::i32, {kCapacity}, count_);
  }
  TensorId parameter(const std::string& name, Shape shape, double scale, double offset = 0) {
    const TensorId id = b_.state(name, dtype_, shape, Role::weight);
    auto values = random_.normals(shape.elements(), scale);
    for (double& v : values)
      v = static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(v + offset))));
    result_.states[name] = values;
    if (random_.chance(0.75)) {
      const DType wide = dtype_ == DType::f64 ? DType::f64 : DType::f32;
      result_.parameters.push_back({id, b_.state(name + ".grad", wide, shape, Role::gradient)});
    }
    return id;
  }
  std::string name(const char* text) const {
    return "layers." + std::to_string(step_) + "." + text + std::to_string(step_);
  }
  int64_t width(TensorId id) const { return b_.tensor(id).shape.row_size(); }

  // A tensor of the pool, or some of its columns.
  TensorId any(int64_t multiple = 1) {
    TensorId id = random_.pick(pool_);
    if (width(id) < multiple) id = pool_.front();
    const int64_t size = width(id) / multiple;
    if (!views_ || size < 2 || random_.chance(0.5)) return b_.columns(id, 0, size * multiple);
    const int64_t begin = random_.below(size), columns = 1 + random_.below(size - begin);
    return b_.columns(id, begin * multiple, columns * multiple);
  }
  // Another of the same width: perhaps the same one.
  TensorId partner(TensorId id) {
    std::vector<TensorId> fitting = {id};
    for (const TensorId other : pool_) {
      if (width(other) == width(id)) fitting.push_back(other);
      if (views_ && width(other) > width(id))
        fitting.push_back(b_.columns(other, width(other) - width(id), width(id)));
    }
    return random_.pick(fitting);
  }
  TensorId norm_weight(const char* text, int64_t size) { return parameter(name(text), {size}, 0.3, 1); }

  void add_step() {
    switch (random_.below(7)) {
      case 0:
      case 1:
        return add_linear();
      case 2:
        return add_attention();
      case 3: {
        const TensorId x = any();
        pool_.push_back(ops::rms_norm(b_, "norm", x, norm_weight("norm", width(x)), 1e-3));
        return;
      }
      case 4: {
        const TensorId x = any();
        const auto out =
            ops::residual_rms_norm(b_, "norm", x, partner(x), norm_weight("norm", width(x)), 1e-3);
        pool_.push_back(out.y);
        pool_.push_back(out.sum);
        if (random_.chance(0.5)) b_.mark_keep(out.sum);
        return;
      }
      case 5:
        pool_.push_back(ops::swiglu(b_, "act", any(2)));
        return;
      default: {
        const TensorId x = any();
        pool_.push_back(ops::add(b_, b_.scoped("sum"), x, partner(x)));
      }
    }
  }

  TensorId linear(const char* text, TensorId x, const std::vector<int64_t>& segments) {
    int64_t rows = 0;
    for (const int64_t size : segments) rows += size;
    const double scale = 1 / std::sqrt(static_cast<double>(width(x)));
    const TensorId weight = parameter(name(text) + ".weight", {rows, width(x)}, scale);
    const TensorId bias = random_.chance(0.5) ? parameter(name(text) + ".bias", {rows}, 0.3) : kNone;
    ops::LinearAdapter adapter;
    if (random_.chance(0.6)) {
      int64_t total = 0;
      for (size_t i = 0; i < segments.size(); ++i) {
        adapter.ranks.push_back(random_.below(4));
        adapter.scales.push_back(0.5 + static_cast<double>(i) / 3);
        total += adapter.ranks.back();
        adapter.b.push_back(adapter.ranks.back() == 0 ? kNone
                                                      : parameter(name(text) + ".b" + std::to_string(i),
                                                                  {segments[i], adapter.ranks.back()}, 0.5));
      }
      if (total > 0) adapter.a = parameter(name(text) + ".a", {total, width(x)}, scale);
      if (total > 0 && random_.chance(0.4)) {
        adapter.dropout = 0.3;
        adapter.random = random_state_;
      }
    }
    return ops::linear(b_, text, x, weight, bias, segments, adapter);
  }

  void add_linear() {
    const TensorId x = any();
    std::vector<int64_t> segments;
    for (int64_t i = 0; i <= random_.below(3); ++i) segments.push_back(8 * (1 + random_.below(2)));
    const TensorId y = linear("linear", x, segments);
    if (!views_ || random_.chance(0.5)) {
      pool_.push_back(y);
      return;
    }
    int64_t column = 0;
    for (const int64_t size : segments) {
      pool_.push_back(b_.columns(y, column, size));
      column += size;
    }
  }

  void add_attention() {
    const int64_t dim = 8, kv = 1 + random_.below(2), heads = kv * (1 + random_.below(2));
    const std::vector<int64_t> segments = {heads * dim, kv * dim, kv * dim};
    const TensorId qkv = linear("qkv", any(), segments);
    const TensorId q = b_.columns(qkv, 0, heads * dim), k = b_.columns(qkv, heads * dim, kv * dim),
                   v = b_.columns(qkv, (heads + kv) * dim, kv * dim);
    ops::QkRopeOptions options{.head_dim = dim, .interleaved = random_.chance(0.5), .eps = 1e-3};
    if (random_.chance(0.5)) {
      options.q_norm = norm_weight("q_norm", dim);
      options.k_norm = norm_weight("k_norm", dim);
    }
    const auto rotated = ops::qk_norm_rope(b_, "rope", q, k, table_, options);
    const ops::AttentionOptions attention{heads, kv, dim, 0.35, random_.chance(0.3) ? 2 : 0};
    pool_.push_back(ops::attention(b_, "attention", rotated.q, rotated.k, v, cu_seqlens_, attention));
  }

  void finish() {
    const int64_t seeds = random_.below(3);
    for (int64_t i = 0; i < seeds; ++i) add_seed(any());
    if (seeds == 0 || random_.chance(0.5)) {
      add_head();
      return;
    }
  }
  void add_seed(TensorId id) {
    for (const auto& seed : result_.seeds)
      if (seed.tensor == id) return;
    const std::string seed = "seed." + std::to_string(result_.seeds.size());
    result_.inputs[seed] = random_.normals(kTokens * width(id));
    result_.seeds.push_back({id, b_.input(seed, dtype_, {kCapacity, width(id)}, count_)});
  }
  void add_head() {
    const TensorId hidden = any();
    const TensorId labelled = input("num_labels", DType::i32, {1}, {3});
    const TensorId rows = b_.input("label_rows", DType::i32, {5}, labelled);
    const TensorId labels = b_.input("labels", DType::i32, {5}, labelled);
    const TensorId weights = b_.input("row_weights", DType::f32, {5}, labelled);
    result_.inputs["label_rows"] = {7, 2, 4};
    result_.inputs["labels"] = {0, 10, 3};
    result_.inputs["row_weights"] = {0.5, 1.25, 0.75};
    ops::HeadLossOperands o{.hidden = hidden,
                            .weight = parameter("head.weight", {11, width(hidden)}, 1),
                            .label_rows = rows,
                            .labels = labels,
                            .row_weights = weights};
    o.sums = b_.state("sums", DType::f64, {4}, Role::counter);
    for (const auto& p : result_.parameters)
      if (p.parameter == o.weight) o.weight_gradient = p.gradient;
    ops::head_loss(b_, "head", o);
    result_.has_loss = true;
  }

  Random random_;
  DType dtype_;
  RandomProgram result_;
  ProgramBuilder b_;
  TensorId count_ = kNone, cu_seqlens_ = kNone, random_state_ = kNone;
  ops::RopeTable table_;
  std::vector<TensorId> pool_;
  int64_t step_ = 0;
  bool views_ = true;  // without them gradients are shared instead of copied
};

inline RandomProgram random_program(uint64_t seed, DType dtype) {
  return RandomProgramMaker(seed, dtype).make();
}

}  // namespace serval::testing
