// Single calls at the sizes of a model. A program holds the same call several times on operands of their own,
// so that each reads what no cache holds; calls of other ops that were needed to write the program (the
// embedding that makes an activation differentiable) are taken out before it runs.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>

#include "base/error.h"
#include "gemm/gemm.h"
#include "nn/network.h"
#include "ops/adamw_8bit/adamw_8bit.h"
#include "ops/attention/attention.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/head/head.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/swiglu/swiglu.h"
#include "plan/differentiate.h"
#include "plan/side_columns.h"
#include "train/bench.h"
#include "train/bench_data.h"

namespace serval {
namespace {

constexpr DType kF32 = DType::f32;
constexpr int64_t kTableRows = 64;  // of the embeddings that make activations
constexpr double kRoundSeconds = 0.02;

// More than any cache of the device holds.
int64_t rotated_bytes(DeviceKind device) {
  return device == DeviceKind::cpu ? int64_t{64} << 20 : int64_t{256} << 20;
}

// Writes one copy of a call; tensors are named after the copy.
class CallBuilder {
 public:
  CallBuilder(Program& program, DType type, int64_t tokens, std::string title)
      : dtype(type), rows(tokens), b_(program), title_(std::move(title)) {}

  const DType dtype;
  const int64_t rows;
  int64_t copy = 0;
  std::vector<ParameterGradient> parameters;
  std::vector<GradientSeed> seeds;

  ProgramBuilder& builder() { return b_; }
  std::string name(const std::string& what) const { return what + "." + std::to_string(copy); }
  std::string title() const { return name(title_); }
  TensorId input(const std::string& what, DType type, Shape shape) {
    return b_.input(name(what), type, shape);
  }
  TensorId state(const std::string& what, DType type, Shape shape) {
    return b_.state(name(what), type, shape, Role::weight);
  }
  TensorId weight(const std::string& what, Shape shape, bool trained = false) {
    const TensorId id = state(what, dtype, shape);
    if (trained) parameters.push_back({id, state(what + ".gradient", kF32, shape)});
    return id;
  }
  TensorId ids() {
    const TensorId old = b_.program().find(name("ids"));
    return old != kNone ? old : input("ids", DType::i32, {rows});
  }
  // A tensor that wants a gradient.
  TensorId activation(const std::string& what, int64_t columns) {
    return ops::embedding(b_, name(what), ids(), weight(what + ".table", {kTableRows, columns}, true));
  }
  // The tensor's gradient is given: backward is measured too.
  void seed(TensorId id) {
    const Shape shape{rows, b_.tensor(id).shape.row_size()};
    seeds.push_back({id, input("seed" + std::to_string(seeds.size()), dtype, shape)});
  }

 private:
  ProgramBuilder b_;
  std::string title_;
};

struct Case {
  std::string title;
  int64_t rows = 0;
  std::function<void(CallBuilder&)> build;
};

Program write_program(const Case& work, DType dtype, DeviceKind device, int64_t copies) {
  Program program;
  program.name = work.title;
  program.device = device;
  CallBuilder builder(program, dtype, work.rows, work.title);
  for (; builder.copy < copies; ++builder.copy) work.build(builder);
  if (!builder.parameters.empty()) differentiate(program, builder.parameters, builder.seeds);
  return add_side_columns(std::move(program));
}

bool belongs(const OpCall& call, const Case& work) {
  return call.name.starts_with(work.title + ".");
}

Program only_calls_of(Program program, const Case& work, const Op* op) {
  std::erase_if(program.calls, [&](const OpCall& call) { return call.op != op || !belongs(call, work); });
  return program;
}

// Every tensor and workspace has a place of its own; what no call touches has none.
ArenaPlan separate_places(const Program& program) {
  ArenaPlan plan;
  plan.offsets.assign(program.tensors.size(), -1);
  plan.workspace_offsets.assign(program.calls.size(), -1);
  const auto take = [&](int64_t bytes) {
    const int64_t offset = plan.bytes;
    plan.bytes += (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    return offset;
  };
  int64_t workspace = 0;
  for (const OpCall& call : program.calls) {
    workspace = std::max(workspace, workspace_of(CallView{program, call}));
    for_each_operand(call, [&](TensorId id) {
      const TensorId root = program.root(id);
      int64_t& offset = plan.offsets[static_cast<size_t>(root)];
      if (program.tensor(root).kind != TensorKind::state && offset < 0)
        offset = take(program.tensor(root).span_bytes());
    });
  }
  // Scratch memory is shared, as it is in a training step.
  if (workspace == 0) return plan;
  const int64_t offset = take(workspace);
  for (size_t i = 0; i < program.calls.size(); ++i)
    if (workspace_of(CallView{program, program.calls[i]}) > 0) plan.workspace_offsets[i] = offset;
  return plan;
}

std::vector<int32_t> index_values(const TensorDecl& decl) {
  std::vector<int32_t> values(static_cast<size_t>(decl.shape.elements()));
  const bool rows = decl.name.starts_with("label_rows"), spread = decl.name.starts_with("spread_ids");
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<int32_t>(rows     ? i
                                     : spread ? i * 7919 % values.size()
                                              : i % static_cast<size_t>(kTableRows));
  return values;
}

void fill(Device& device, const TensorDecl& decl, void* data, const NormalBlock& numbers) {
  const int64_t bytes = decl.span_bytes();
  const auto write = [&](const void* source) { device.copy_from_host(data, source, bytes); };
  // Second moments stay zero: they are never negative.
  if (decl.name.starts_with("second_moment")) return;
  if (decl.dtype == DType::u8) {  // codes of 8-bit moments, all as likely
    std::vector<uint8_t> codes(static_cast<size_t>(bytes));
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
    write(codes.data());
  } else if (decl.name.find("absmax") != std::string::npos) {
    write(std::vector<float>(static_cast<size_t>(decl.shape.elements()), 1.0f).data());
  } else if (decl.dtype == DType::i32) {
    write(index_values(decl).data());
  } else if (decl.dtype == DType::i64) {
    write(std::vector<int64_t>(static_cast<size_t>(decl.shape.elements()), 1).data());
  } else if (decl.dtype == DType::f64) {
    write(std::vector<double>(static_cast<size_t>(decl.shape.elements()), 1.0).data());
  } else {
    std::vector<std::byte> values(static_cast<size_t>(bytes));
    numbers.read(decl.name, 0, bytes / size_of(decl.dtype), values.data(), decl.dtype);
    write(values.data());
  }
}

// Seconds of one call, out of several rounds.
double seconds_of(const Program& program, int64_t rows, Device& device, const NormalBlock& numbers) {
  StateStore states(device);
  states.declare(program);
  states.allocate();
  ArenaPlan plan = separate_places(program);
  Buffer arena(device, plan.bytes);
  const std::vector<int64_t> offsets = plan.offsets;
  Executor executor(program, std::move(plan), arena.data(), states);
  for (size_t id = 0; id < program.tensors.size(); ++id) {
    const TensorDecl& decl = program.tensors[id];
    if (decl.base != kNone) continue;
    if (decl.kind == TensorKind::state)
      fill(device, decl, states.data(decl.name), numbers);
    else if (offsets[id] >= 0)
      fill(device, decl, static_cast<char*>(arena.data()) + offsets[id], numbers);
    if (decl.name.starts_with("cu_seqlens"))  // one document of all tokens
      executor.set_input(decl.name, std::vector<int32_t>{0, static_cast<int32_t>(rows)});
  }
  set_product_tuning(device.kind(), true);
  executor.run();
  device.synchronize();
  set_product_tuning(device.kind(), false);
  executor.capture();
  const auto round = [&](int64_t repeats) {
    const int64_t begin = device.mark();
    for (int64_t i = 0; i < repeats; ++i) executor.run();
    const int64_t end = device.mark();
    const double seconds = device.seconds(begin, end);
    device.clear_marks();
    return seconds / static_cast<double>(repeats);
  };
  const double once = std::max(round(1), 1e-7);
  const auto repeats = static_cast<int64_t>(std::clamp(std::ceil(kRoundSeconds / once), 1.0, 10000.0));
  std::vector<double> seconds(once > 0.5 ? 1 : once > 0.1 ? 3 : 5);
  for (double& value : seconds) value = round(repeats);
  // The median; on the CPU, whose cores other programs use too, the best.
  std::sort(seconds.begin(), seconds.end());
  const double chosen = device.kind() == DeviceKind::cpu ? seconds.front() : seconds[seconds.size() / 2];
  return chosen / static_cast<double>(program.calls.size());
}

void measure(const Case& work, DType dtype, Device& device, const NormalBlock& numbers,
             std::vector<CallRate>& rates) {
  const Program single = write_program(work, dtype, device.kind(), 1);
  std::vector<const Op*> seen;
  for (const OpCall& call : single.calls)
    if (belongs(call, work) && std::find(seen.begin(), seen.end(), call.op) == seen.end())
      seen.push_back(call.op);
  for (const Op* op : seen) {
    const Program calls = only_calls_of(single, work, op);
    CallRate rate{.title = work.title, .op = std::string(op->name)};
    int64_t bytes = 0;
    for (const OpCall& call : calls.calls) {
      const Cost cost = cost_of(CallView{calls, call});
      const double count = static_cast<double>(calls.calls.size());
      rate.cost.flops += cost.flops / count;
      rate.cost.bytes += cost.bytes / count;
      for_each_operand(call, [&](TensorId id) { bytes += calls.tensor(id).span_bytes(); });
    }
    const int64_t copies =
        std::clamp<int64_t>(rotated_bytes(device.kind()) / std::max<int64_t>(bytes, 1) + 1, 1, 64);
    const Program program = only_calls_of(write_program(work, dtype, device.kind(), copies), work, op);
    rate.seconds = seconds_of(program, work.rows, device, numbers);
    rates.push_back(std::move(rate));
  }
}

std::vector<CallRate> measure_all(const std::vector<Case>& cases, const std::string& only, Device& device) {
  const NormalBlock numbers(int64_t{1} << 20, 0.5);
  std::vector<CallRate> rates;
  for (const Case& work : cases)
    if (work.title.find(only) != std::string::npos) measure(work, DType::bf16, device, numbers, rates);
  return rates;
}

Case copy_case(int64_t rows, int64_t columns) {
  return {"copy", rows, [columns](CallBuilder& c) {
            const TensorId target = c.builder().temporary(c.name("to"), c.dtype, {c.rows, columns});
            ops::copy(c.builder(), c.title(), c.input("from", c.dtype, {c.rows, columns}), target);
          }};
}

// rank 0: no adapter. The layer lies as the network of a model lays it out.
Case linear_case(const std::string& title, int64_t rows, int64_t in, const std::vector<int64_t>& out,
                 int64_t rank, bool full) {
  return {
      title, rows, [=](CallBuilder& c) {
        NetworkOptions options{.compute = c.dtype, .gradients = true};
        options.trained = [=](const std::string&) { return full; };
        if (rank > 0)
          options.adapter = [=](const std::string&) { return ModuleAdapter{.rank = rank, .scale = 1}; };
        ParameterTable table;
        Network network(c.builder(), table, options);
        std::vector<LinearPart> parts;
        for (const int64_t size : out) parts.push_back({.name = std::to_string(parts.size()), .size = size});
        c.seed(network.linear(c.title(), parts, c.activation("x", in)));
        const Program& program = c.builder().program();
        for (const Parameter& parameter : table.all())
          if (parameter.trained())
            c.parameters.push_back({program.find(parameter.state), program.find(gradient_state(parameter))});
      }};
}

std::vector<Case> op_cases(const DecoderConfig& m, int64_t tokens) {
  const int64_t hidden = m.hidden_size, middle = m.intermediate_size, dim = m.head_dim;
  const int64_t heads = m.num_attention_heads, kv_heads = m.num_key_value_heads, vocab = m.vocab_size;
  const double eps = m.rms_norm_eps;
  std::vector<Case> cases = {copy_case(tokens, 2 * middle)};
  const auto add = [&](const char* title, std::function<void(CallBuilder&)> build) {
    cases.push_back({title, tokens, std::move(build)});
  };
  add("sum", [=](CallBuilder& c) {
    ops::add(c.builder(), c.title(), c.input("x", c.dtype, {c.rows, hidden}),
             c.input("z", c.dtype, {c.rows, hidden}));
  });
  add("embedding", [=](CallBuilder& c) {
    c.seed(ops::embedding(c.builder(), c.title(), c.input("spread_ids", DType::i32, {c.rows}),
                          c.weight("table", {c.rows, hidden}, true)));
  });
  add("norm", [=](CallBuilder& c) {
    c.seed(ops::rms_norm(c.builder(), c.title(), c.activation("x", hidden), c.weight("w", {hidden}), eps));
  });
  add("residual norm", [=](CallBuilder& c) {
    const auto out = ops::residual_rms_norm(c.builder(), c.title(), c.activation("x", hidden),
                                            c.activation("z", hidden), c.weight("w", {hidden}), eps);
    c.seed(out.y);
    c.seed(out.sum);
  });
  const auto rope_table = [=](CallBuilder& c, const std::string& name) {
    return ops::rope_table(c.builder(), name, c.ids(), m.inverse_frequency, m.rope_attention_scaling,
                           c.dtype);
  };
  add("rope table", [=](CallBuilder& c) { rope_table(c, c.title()); });
  for (const bool normed : {false, true})
    add(normed ? "q/k norm + rope" : "rope", [=](CallBuilder& c) {
      ops::QkRopeOptions options{.head_dim = dim, .eps = eps};
      if (normed) options.q_norm = c.weight("q_norm", {dim}), options.k_norm = c.weight("k_norm", {dim});
      const auto out =
          ops::qk_norm_rope(c.builder(), c.title(), c.activation("q", heads * dim),
                            c.activation("k", kv_heads * dim), rope_table(c, c.name("angles")), options);
      c.seed(out.q);
      c.seed(out.k);
    });
  add("swiglu",
      [=](CallBuilder& c) { c.seed(ops::swiglu(c.builder(), c.title(), c.activation("x", 2 * middle))); });
  add("attention", [=](CallBuilder& c) {
    const TensorId q = c.activation("q", heads * dim), k = c.activation("k", kv_heads * dim),
                   v = c.activation("v", kv_heads * dim);
    c.seed(ops::attention(c.builder(), c.title(), q, k, v, c.input("cu_seqlens", DType::i32, {2}),
                          {heads, kv_heads, dim, 1 / std::sqrt(static_cast<double>(dim))}));
  });
  add("head", [=](CallBuilder& c) {
    ops::HeadLossOperands o{.hidden = c.activation("x", hidden), .weight = c.weight("w", {vocab, hidden})};
    o.label_rows = c.input("label_rows", DType::i32, {c.rows});
    o.labels = c.input("labels", DType::i32, {c.rows});
    o.row_weights = c.input("row_weights", kF32, {c.rows});
    o.sums = c.state("sums", DType::f64, {4});
    ops::head_loss(c.builder(), c.title(), o);
  });
  add("update", [=](CallBuilder& c) {
    const Shape shape{tokens, hidden};
    const TensorId gradient = c.state("g", kF32, shape), stats = c.state("stats", DType::f64, {2});
    ops::gradient_norm(c.builder(), c.title(), {gradient}, 1, stats);
    ops::adamw(c.builder(), c.title(),
               {c.state("p", kF32, shape), c.state("m", kF32, shape), c.state("second_moment", kF32, shape),
                gradient, c.weight("w", shape)},
               c.input("hyper", DType::f64, {2}), stats, {});
  });
  add("update of 8 bits", [=](CallBuilder& c) {
    const Shape shape{tokens, hidden};
    const int64_t blocks = ops::moment_blocks(shape.elements());
    const Shape codes{blocks * ops::kMomentBlock};
    const ops::AdamW8bitOperands o{.parameter = c.weight("w", shape),
                                   .m_codes = c.state("m_codes", DType::u8, codes),
                                   .m_absmax = c.state("m_absmax", kF32, {blocks}),
                                   .v_codes = c.state("v_codes", DType::u8, codes),
                                   .v_absmax = c.state("v_absmax", kF32, {blocks}),
                                   .gradient = c.state("g", kF32, shape)};
    ops::adamw_8bit(c.builder(), c.title(), {o}, c.input("hyper", DType::f64, {2}),
                    c.state("stats", DType::f64, {2}), {});
  });
  return cases;
}

Case square_case(int64_t size) {
  return linear_case(std::to_string(size) + " x " + std::to_string(size), size, size, {size}, 0, false);
}

}  // namespace

std::vector<CallRate> bench_ops(const DecoderConfig& model, int64_t tokens, const std::string& only,
                                Device& device) {
  return measure_all(op_cases(model, tokens), only, device);
}

std::vector<CallRate> bench_products(const DecoderConfig& m, int64_t tokens, int64_t lora_rank, bool full,
                                     const std::string& only, Device& device) {
  const int64_t q = m.num_attention_heads * m.head_dim, kv = m.num_key_value_heads * m.head_dim;
  std::vector<Case> cases = {square_case(device.kind() == DeviceKind::cpu ? 1024 : 8192)};
  for (const int64_t rank : lora_rank > 0 ? std::vector<int64_t>{0, lora_rank} : std::vector<int64_t>{0}) {
    const std::string suffix = rank > 0 ? " r" + std::to_string(rank) : "";
    cases.push_back(linear_case("q,k,v" + suffix, tokens, m.hidden_size, {q, kv, kv}, rank, full));
    cases.push_back(linear_case("o" + suffix, tokens, q, {m.hidden_size}, rank, full));
    cases.push_back(linear_case("gate,up" + suffix, tokens, m.hidden_size,
                                {m.intermediate_size, m.intermediate_size}, rank, full));
    cases.push_back(linear_case("down" + suffix, tokens, m.intermediate_size, {m.hidden_size}, rank, full));
  }
  cases.push_back(
      linear_case("head", std::min<int64_t>(tokens, 1024), m.hidden_size, {m.vocab_size}, 0, full));
  return measure_all(cases, only, device);
}

double device_product_rate(Device& device, DType dtype) {
  if (device.kind() == DeviceKind::cpu) return measured_product_rate(dtype);
  std::vector<CallRate> rates;
  measure(square_case(8192), dtype, device, NormalBlock(int64_t{1} << 20, 0.5), rates);
  return rates.front().cost.flops / rates.front().seconds;
}

double device_copy_rate(Device& device) {
  std::vector<CallRate> rates;
  const int64_t rows = device.kind() == DeviceKind::cpu ? 4096 : 32768;
  measure(copy_case(rows, 8192), DType::bf16, device, NormalBlock(int64_t{1} << 20, 0.5), rates);
  return rates.front().cost.bytes / rates.front().seconds;
}

LinkRate device_link_rate(Device& device) {
  const int64_t bytes = int64_t{256} << 20;
  Buffer buffer(device, bytes);
  std::vector<std::byte> host(static_cast<size_t>(bytes), std::byte{1});
  const auto best = [&](const std::function<void()>& copy) {
    double seconds = 1e30;
    for (int round = 0; round < 4; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      copy();
      device.synchronize();
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
      seconds = std::min(seconds, taken.count());
    }
    return static_cast<double>(bytes) / seconds;
  };
  // What a GPU reads lies in pinned memory already: the link alone is measured.
  const bool gpu = device.kind() != DeviceKind::cpu;
  const auto fill = [&](void* part, int64_t first, int64_t count) {
    if (!gpu) std::memcpy(part, host.data() + first, static_cast<size_t>(count));
  };
  return {best([&] { device.fill_rows(buffer.data(), bytes, bytes, 1, fill); }),
          best([&] { device.copy_to_host(host.data(), buffer.data(), bytes); })};
}

}  // namespace serval
