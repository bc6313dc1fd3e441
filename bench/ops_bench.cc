// Each op by itself at the sizes of Qwen3-0.6B, bf16: ops_bench [threads [tokens [part of a title]]]
// GB/s counts each operand once (the cost the op states), so it compares with the copy on the first line.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/parallel.h"
#include "ops/adamw/adamw.h"
#include "ops/attention/attention.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/head/head.h"
#include "ops/linear/linear.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/swiglu/swiglu.h"
#include "plan/differentiate.h"
#include "run/executor.h"

namespace serval {
namespace {

constexpr int64_t kHidden = 1024, kHeads = 16, kKvHeads = 8, kHeadDim = 128, kMiddle = 3072, kVocab = 151936;
constexpr DType kBf16 = DType::bf16, kF32 = DType::f32;

struct Bench {
  explicit Bench(int64_t token_count) : tokens(token_count), b(program) {}
  int64_t tokens;
  Program program;
  ProgramBuilder b;
  std::vector<ParameterGradient> parameters;
  std::vector<GradientSeed> seeds;

  // A trained embedding first, so that the tensors after it have gradients.
  TensorId activation(const std::string& name, int64_t columns) {
    return ops::embedding(b, name, ids(), weight(name + ".table", {64, columns}, true));
  }
  TensorId ids() {
    const TensorId old = program.find("ids");
    return old != kNone ? old : b.input("ids", DType::i32, {tokens});
  }
  TensorId weight(const std::string& name, Shape shape, bool trained = false) {
    const TensorId id = b.state(name, kBf16, shape, Role::weight);
    if (trained) parameters.push_back({id, b.state(name + ".grad", kF32, shape, Role::gradient)});
    return id;
  }
  void seed(TensorId id) {
    seeds.push_back(
        {id, b.input("seed" + std::to_string(seeds.size()), kBf16, {tokens, b.tensor(id).shape.row_size()})});
  }
};

// Small numbers that repeat: norms and softmax stay finite.
void fill(const Operand& o, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < o.row_size; ++i) {
      const float value = static_cast<float>((row * 31 + i * 7) % 64 - 32) / 64;
      if (o.dtype == kBf16) o.row<BFloat16>(row)[i] = BFloat16(value);
      if (o.dtype == kF32) o.row<float>(row)[i] = value;
      if (o.dtype == DType::f64) o.row<double>(row)[i] = 1;
      if (o.dtype == DType::i32) o.row<int32_t>(row)[i] = static_cast<int32_t>(row % 64);
      if (o.dtype == DType::i64) o.row<int64_t>(row)[i] = 1;
    }
  }
}

std::string wanted;

void run(const char* title, int64_t tokens, const std::function<void(Bench&)>& build) {
  if (std::string(title).find(wanted) == std::string::npos) return;
  Bench bench(tokens);
  build(bench);
  if (!bench.seeds.empty() || !bench.parameters.empty())
    differentiate(bench.program, bench.parameters, bench.seeds);
  const auto device = make_cpu_device();
  StateStore states(*device);
  states.declare(bench.program);
  states.allocate();
  ArenaPlan plan = plan_arena(bench.program);
  Buffer arena(*device, plan.bytes);
  Executor executor(bench.program, std::move(plan), arena.data(), states);
  for (size_t i = 0; i < bench.program.tensors.size(); ++i) {
    const TensorDecl& decl = bench.program.tensors[i];
    if (decl.kind == TensorKind::temporary || decl.base != kNone) continue;
    fill(executor.operand(static_cast<TensorId>(i)), decl.shape.rows());
    if (decl.name == "cu_seqlens")
      executor.set_input("cu_seqlens", std::vector<int32_t>{0, static_cast<int32_t>(tokens)});
    if (decl.name == "label_rows") {
      std::vector<int32_t> rows(static_cast<size_t>(decl.shape.rows()));
      for (size_t r = 0; r < rows.size(); ++r) rows[r] = static_cast<int32_t>(r);
      executor.set_input("label_rows", rows);
    }
  }
  executor.run();
  // The best of several runs of each call.
  std::vector<double> best(bench.program.calls.size(), 1e9);
  size_t at = 0;
  auto last = std::chrono::steady_clock::now();
  executor.set_observer([&](const OpCall&, const Executor&) {
    const auto now = std::chrono::steady_clock::now();
    best[at] = std::min(best[at], std::chrono::duration<double>(now - last).count());
    ++at;
    last = std::chrono::steady_clock::now();
  });
  for (int i = 0; i < 7; ++i) {
    at = 0;
    last = std::chrono::steady_clock::now();
    executor.run();
  }
  for (size_t c = 0; c < best.size(); ++c) {
    const OpCall& call = bench.program.calls[c];
    if (call.name.find(title) == std::string::npos) continue;
    const Cost cost = cost_of(CallView{bench.program, call});
    fmt::print("{:<26} {:<24} {:>9.3f} ms {:>8.1f} GB/s {:>9.1f} GFLOP/s\n", title, call.op->name,
               best[c] * 1e3, cost.bytes / best[c] / 1e9, cost.flops / best[c] / 1e9);
  }
}

int main_of(int argc, char** argv) {
  if (argc > 1) set_num_threads(std::atoi(argv[1]));
  const int64_t tokens = argc > 2 ? std::atoll(argv[2]) : 1024;
  if (argc > 3) wanted = argv[3];
  fmt::print("{}, {} threads, {} tokens\n", cpu_text(), num_threads(), tokens);
  run("copy", tokens, [](Bench& t) {
    const Shape shape{t.tokens, 2 * kMiddle};
    ops::copy(t.b, "copy", t.b.input("x", kBf16, shape), t.b.temporary("y", kBf16, shape));
  });
  run("sum", tokens, [](Bench& t) {
    const Shape shape{t.tokens, 2 * kMiddle};
    ops::add(t.b, "sum", t.b.input("x", kBf16, shape), t.b.input("z", kBf16, shape));
  });
  run("embedding", tokens, [](Bench& t) {
    t.seed(ops::embedding(t.b, "embedding", t.ids(), t.weight("table", {kVocab / 16, kHidden}, true)));
  });
  run("norm", tokens, [](Bench& t) {
    t.seed(ops::rms_norm(t.b, "norm", t.activation("x", kHidden), t.weight("w", {kHidden}, true), 1e-6));
  });
  run("residual", tokens, [](Bench& t) {
    const auto out = ops::residual_rms_norm(t.b, "residual", t.activation("x", kHidden),
                                            t.activation("z", kHidden), t.weight("w", {kHidden}), 1e-6);
    t.seed(out.y);
    t.seed(out.sum);
  });
  run("swiglu", tokens, [](Bench& t) { t.seed(ops::swiglu(t.b, "swiglu", t.activation("x", 2 * kMiddle))); });
  for (const bool normed : {false, true}) {
    run("rope", tokens, [&](Bench& t) {
      const auto table =
          ops::rope_table(t.b, "table", t.ids(), std::vector<double>(kHeadDim / 2, 0.01), 1, kBf16);
      ops::QkRopeOptions options{.head_dim = kHeadDim, .eps = 1e-6};
      if (normed)
        options.q_norm = t.weight("q_norm", {kHeadDim}), options.k_norm = t.weight("k_norm", {kHeadDim});
      const auto out =
          ops::qk_norm_rope(t.b, normed ? "norm_rope" : "rope", t.activation("q", kHeads * kHeadDim),
                            t.activation("k", kKvHeads * kHeadDim), table, options);
      t.seed(out.q);
      t.seed(out.k);
    });
  }
  run("table", tokens, [](Bench& t) {
    ops::rope_table(t.b, "table", t.ids(), std::vector<double>(kHeadDim / 2, 0.01), 1, kBf16);
  });
  run("attention", tokens, [](Bench& t) {
    const TensorId q = t.activation("q", kHeads * kHeadDim), k = t.activation("k", kKvHeads * kHeadDim),
                   v = t.activation("v", kKvHeads * kHeadDim);
    t.seed(ops::attention(t.b, "attention", q, k, v, t.b.input("cu_seqlens", DType::i32, {2}),
                          {kHeads, kKvHeads, kHeadDim, 0.088}));
  });
  for (const double dropout : {0.0, 0.1}) {
    run("linear", tokens, [&](Bench& t) {
      const ops::LinearAdapter adapter{
          t.weight("a", {32, kHidden}, true),
          {t.weight("b0", {kMiddle, 16}, true), t.weight("b1", {kMiddle, 16}, true)},
          {16, 16},
          {1, 1},
          dropout,
          t.b.input("random", DType::i64, {3})};
      t.seed(ops::linear(t.b, dropout > 0 ? "linear dropout" : "linear", t.activation("x", kHidden),
                         t.weight("w", {2 * kMiddle, kHidden}), kNone, {kMiddle, kMiddle}, adapter));
    });
  }
  run("head", tokens, [](Bench& t) {
    ops::HeadLossOperands o{.hidden = t.activation("x", kHidden), .weight = t.weight("w", {kVocab, kHidden})};
    o.label_rows = t.b.input("label_rows", DType::i32, {t.tokens});
    o.labels = t.b.input("labels", DType::i32, {t.tokens});
    o.row_weights = t.b.input("row_weights", kF32, {t.tokens});
    o.sums = t.b.state("sums", DType::f64, {4}, Role::counter);
    ops::head_loss(t.b, "head", o);
  });
  run("update", tokens, [](Bench& t) {
    const Shape shape{8 * kMiddle, kHidden};
    const auto state = [&](const char* name) { return t.b.state(name, kF32, shape, Role::optimizer); };
    const TensorId stats = t.b.state("stats", DType::f64, {2}, Role::counter);
    const TensorId gradient = state("g");
    ops::gradient_norm(t.b, "update", {gradient}, 1, stats);
    ops::adamw(t.b, "update", {state("p"), state("m"), state("v"), gradient, t.weight("copy", shape)},
               t.b.input("hyper", DType::f64, {2}), stats, {});
  });
  return 0;
}

}  // namespace
}  // namespace serval

int main(int argc, char** argv) {
  return serval::main_of(argc, argv);
}
