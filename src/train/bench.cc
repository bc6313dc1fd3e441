#include "train/bench.h"

#include <algorithm>

#include "base/error.h"
#include "base/process.h"
#include "base/text.h"
#include "nn/weights.h"
#include "train/bench_data.h"
#include "train/session.h"

namespace serval {
namespace {

struct NamedShape {
  const char* name;
  const char* model_type;
  int64_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab;
  double eps, rope_theta;
  bool tied;
};

constexpr NamedShape kShapes[] = {
    {"qwen3-0.6b", "qwen3", 1024, 3072, 28, 16, 8, 128, 151936, 1e-6, 1e6, true},
    {"qwen3-1.7b", "qwen3", 2048, 6144, 28, 16, 8, 128, 151936, 1e-6, 1e6, true},
    {"qwen3-4b", "qwen3", 2560, 9728, 36, 32, 8, 128, 151936, 1e-6, 1e6, true},
    {"qwen3-8b", "qwen3", 4096, 12288, 36, 32, 8, 128, 151936, 1e-6, 1e6, false},
    {"qwen3-14b", "qwen3", 5120, 17408, 40, 40, 8, 128, 151936, 1e-6, 1e6, false},
    {"qwen3-32b", "qwen3", 5120, 25600, 64, 64, 8, 128, 151936, 1e-6, 1e6, false},
    {"qwen2.5-7b", "qwen2", 3584, 18944, 28, 28, 4, 128, 152064, 1e-6, 1e6, false},
    {"llama3-1b", "llama", 2048, 8192, 16, 32, 8, 64, 128256, 1e-5, 5e5, true},
    {"llama3-3b", "llama", 3072, 8192, 28, 24, 8, 128, 128256, 1e-5, 5e5, true},
    {"llama3-8b", "llama", 4096, 14336, 32, 32, 8, 128, 128256, 1e-5, 5e5, false},
    {"llama3-70b", "llama", 8192, 28672, 80, 64, 8, 128, 128256, 1e-5, 5e5, false},
    {"mistral-7b", "mistral", 4096, 14336, 32, 32, 8, 128, 32768, 1e-5, 1e6, false},
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

SessionOptions session_options(const TrainBench& bench, const BatchCapacity& capacity, DeviceKind device) {
  SessionOptions options;
  options.device = device;
  options.model = bench.model;
  options.network.compute = bench.dtype;
  if (bench.lora_rank > 0)
    options.network.adapter = [rank = bench.lora_rank](const std::string&) {
      return ModuleAdapter{.rank = rank, .scale = 1};
    };
  else
    options.network.trained = [](const std::string&) { return true; };
  options.network.deterministic = bench.deterministic;
  options.train_capacity = capacity;
  options.memory = bench.memory;
  options.update.max_grad_norm = 1;
  options.update.optimizer = bench.optimizer;
  return options;
}

bool is_attention(const OpCall& call) {
  return call.op->name.starts_with("attention");
}

// The FLOPs of a program at capacity, those of attention apart: an op counts it as if all documents were as
// long as the longest.
struct ProgramFlops {
  double attention = 0, other = 0;
  explicit ProgramFlops(const Program& program) {
    for (const OpCall& call : program.calls)
      (is_attention(call) ? attention : other) += cost_of(CallView{program, call}).flops;
  }
};

// Attention of the batch's documents, as a share of attention over the capacity in documents of the longest.
double attention_share(const MicroBatch& batch, const BatchCapacity& capacity) {
  double squares = 0;
  for (size_t i = 0; i + 1 < batch.cu_seqlens.size(); ++i) {
    const double length = batch.cu_seqlens[i + 1] - batch.cu_seqlens[i];
    squares += length * length;
  }
  const int64_t longest = capacity.longest > 0 ? capacity.longest : capacity.tokens;
  return squares / (static_cast<double>(capacity.tokens) * static_cast<double>(longest));
}

class TrainBenchRun {
 public:
  TrainBenchRun(const TrainBench& bench, Device& device)
      : bench_(bench),
        device_(device),
        stream_(random_documents(bench.batch_size * bench.accumulation * (bench.steps + kOtherSteps),
                                 bench.max_length, bench.packed, bench.model.vocab_size),
                {.batch_size = bench.batch_size,
                 .accumulation = bench.accumulation,
                 .packing = bench.packed,
                 .max_length = bench.max_length,
                 .drop_last = true}),
        free_before_(device.free_memory()),
        session_(plan_session(session_options(bench, stream_.capacity(), device.kind())), device),
        flops_(session_.plan().train),
        update_flops_(session_.plan().update_cost().flops) {}

  TrainBenchResult run() {
    const SessionPlan& plan = session_.plan();
    result_.parameters = bench_.model.parameter_count();
    result_.trained_parameters = plan.trained_parameters();
    result_.arena_bytes = plan.arena_bytes();
    result_.host_bytes = plan.host_bytes();
    result_.state_bytes = session_.states().bytes();
    fill_weights();
    const StepBatch first = stream_.next();
    const SessionPreparation preparation{.graphs = bench_.graphs, .measure_products = !bench_.deterministic};
    session_.prepare(first, settings(), preparation);
    step(first);
    device_.synchronize();
    result_.first_step_seconds = seconds_since(bench_.start);

    // Programs for the sizes of packed batches are made once a run: not while time is taken.
    std::vector<StepBatch> batches;
    for (int64_t i = 0; i < bench_.steps; ++i) {
      batches.push_back(stream_.next());
      session_.prepare(batches.back(), settings(), preparation);
    }
    device_.synchronize();
    double flops = 0;
    int64_t tokens = 0;
    const auto begin = Clock::now();
    for (const StepBatch& batch : batches) {
      // As in a run: the host is a step ahead of a GPU.
      session_.start_step(batch, settings());
      ++step_;
      if (session_.steps_in_flight() > (device_.asynchronous() ? 1 : 0))
        result_.loss = session_.collect_step().loss;
      tokens += batch.num_tokens;
      flops += flops_of(batch);
    }
    while (session_.steps_in_flight() > 0) result_.loss = session_.collect_step().loss;
    device_.synchronize();
    const double seconds = seconds_since(begin), steps = static_cast<double>(bench_.steps);
    result_.peak_resident_bytes = peak_resident_bytes();
    result_.device_bytes = device_.kind() == DeviceKind::cpu ? result_.peak_resident_bytes
                                                             : free_before_ - device_.free_memory();
    if (device_.kind() != DeviceKind::cpu)
      result_.device_used_bytes = device_.total_memory() - device_.free_memory();
    result_.tokens_per_second = static_cast<double>(tokens) / seconds;
    result_.step_tokens = tokens / bench_.steps;
    result_.step_seconds = seconds / steps;
    result_.step_flops = flops / steps;
    if (bench_.op_times) measure_ops();
    return result_;
  }

 private:
  static constexpr int64_t kOtherSteps = 2;  // the first one, and the one that measures each call

  void fill_weights() {
    const auto begin = Clock::now();
    const RandomWeights weights(session_.parameters(), bench_.model.initializer_range);
    for (const Role role : {Role::weight, Role::adapter})
      load_parameters(session_.parameters(), role, weights, session_.states());
    device_.synchronize();
    result_.weights_seconds = seconds_since(begin);
  }

  StepSettings settings() const { return {.learning_rate = 1e-4, .step = step_ + 1, .seed = 1}; }

  void step(const StepBatch& batch) {
    result_.loss = session_.step(batch, settings()).loss;
    ++step_;
  }

  double flops_of(const StepBatch& batch) const {
    const BatchCapacity& capacity = session_.plan().options.train_capacity;
    double flops = update_flops_;
    for (const MicroBatch& micro : batch.micro_batches)
      flops += flops_.other * static_cast<double>(micro.num_tokens()) / static_cast<double>(capacity.tokens) +
               flops_.attention * attention_share(micro, capacity);
    return flops;
  }

  void measure_ops() {
    const StepBatch batch = stream_.next();
    const BatchCapacity& capacity = session_.plan().options.train_capacity;
    double share = 0;
    for (const MicroBatch& micro : batch.micro_batches)
      share += attention_share(micro, capacity) / static_cast<double>(batch.micro_batches.size());
    for (Executor* executor : {&session_.train_executor(), &session_.update_executor()})
      executor->set_profile(true);
    step(batch);
    device_.synchronize();
    for (Executor* executor : {&session_.train_executor(), &session_.update_executor()}) {
      executor->set_profile(false);
      for (OpTime& time : executor->times()) {
        if (time.op.starts_with("attention")) time.flops *= share;
        if (time.calls > 0) result_.ops.push_back(std::move(time));
      }
    }
    std::stable_sort(result_.ops.begin(), result_.ops.end(),
                     [](const OpTime& a, const OpTime& b) { return a.seconds > b.seconds; });
  }

  const TrainBench& bench_;
  Device& device_;
  BatchStream stream_;
  int64_t free_before_ = 0;
  Session session_;
  ProgramFlops flops_;
  double update_flops_ = 0;
  int64_t step_ = 0;
  TrainBenchResult result_;
};

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const NamedShape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

Json shape_config(const std::string& name) {
  for (const NamedShape& shape : kShapes) {
    if (shape.name != name) continue;
    Json json = Json::object();
    json.set("model_type", Json(shape.model_type));
    json.set("hidden_size", Json(shape.hidden));
    json.set("intermediate_size", Json(shape.intermediate));
    json.set("num_hidden_layers", Json(shape.layers));
    json.set("num_attention_heads", Json(shape.heads));
    json.set("num_key_value_heads", Json(shape.kv_heads));
    json.set("head_dim", Json(shape.head_dim));
    json.set("vocab_size", Json(shape.vocab));
    json.set("max_position_embeddings", Json(32768));
    json.set("rms_norm_eps", Json(shape.eps));
    json.set("rope_theta", Json(shape.rope_theta));
    json.set("tie_word_embeddings", Json(shape.tied));
    json.set("hidden_act", Json("silu"));
    if (name == "mistral-7b") json.set("sliding_window", Json(nullptr));  // the default is a window
    return json;
  }
  const std::vector<std::string> names = shape_names();
  const std::string nearest = nearest_name(name, names);
  fail_usage("shape '{}' is not known{}; there are {}, and --config takes a config.json", name,
             nearest.empty() ? "" : ", did you mean '" + nearest + "'?", join(names, ", "));
}

TrainBenchResult bench_train(const TrainBench& bench, Device& device) {
  TrainBenchResult result = TrainBenchRun(bench, device).run();
  result.product_rate = device_product_rate(device, bench.dtype);
  return result;
}

}  // namespace serval
