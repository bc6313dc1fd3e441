// Training speed with random weights of a named shape: tokens/s, peak memory, time by op and the share of the
// floor.
//   build/release/bench/train_bench --shape qwen3-0.6b --tokens 1024 --steps 4 --threads 2
//   build/release/bench/train_bench --config examples/demo/model/config.json --tokens 1024
// Prints a table, and one JSON line last. LoRA r 16 on all linears, bf16, one document of `tokens` tokens a
// step.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/philox.h"
#include "base/process.h"
#include "base/text.h"
#include "gemm/gemm.h"
#include "nn/weights.h"
#include "train/session.h"

namespace {

using namespace serval;

const char* const kQwen3Small =
    R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024,
  "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
  "head_dim": 128, "vocab_size": 151936, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "tie_word_embeddings": true,
  "hidden_act": "silu", "max_position_embeddings": 40960})";

std::string option(int argc, char** argv, const char* name, const char* otherwise) {
  for (int i = 1; i + 1 < argc; ++i)
    if (std::strcmp(argv[i], name) == 0) return argv[i + 1];
  return otherwise;
}

int run(int argc, char** argv) {
  const std::string path = option(argc, argv, "--config", "");
  const std::string shape = option(argc, argv, "--shape", "qwen3-0.6b");
  if (path.empty() && shape != "qwen3-0.6b")
    fail("the shape '{}' is not known; use qwen3-0.6b, or --config FILE", shape);
  const int64_t tokens = std::stoll(option(argc, argv, "--tokens", "1024"));
  const int64_t steps = std::stoll(option(argc, argv, "--steps", "4"));
  const std::string policy = option(argc, argv, "--recompute", "cheap");
  set_num_threads(std::stoi(option(argc, argv, "--threads", "0")));
  SessionOptions options;
  options.model = read_decoder_config(Json::parse(path.empty() ? kQwen3Small : read_file(path), path), path);
  options.network.compute = DType::bf16;
  options.network.adapter = [](const std::string&) { return ModuleAdapter{.rank = 16, .scale = 1}; };
  options.train_capacity = {tokens, 1, tokens - 1};
  options.recompute = policy == "blocks" ? Recompute::blocks
                      : policy == "none" ? Recompute::none
                                         : Recompute::cheap;
  options.update.max_grad_norm = 1;
  SessionPlan plan = plan_session(options);
  const auto device = make_cpu_device();
  Session session(std::move(plan), *device);
  for (const Role role : {Role::weight, Role::adapter})
    initialize_parameters(session.parameters(), role, 0.02, 1, session.states());

  MicroBatch batch;
  const PhiloxKey key = philox_key(1, "tokens", 0, 0);
  for (int64_t t = 0; t < tokens; ++t) {
    batch.input_ids.push_back(static_cast<int32_t>(philox_u32(key, static_cast<uint64_t>(t)) %
                                                   static_cast<uint32_t>(options.model.vocab_size)));
    batch.position_ids.push_back(static_cast<int32_t>(t));
    if (t > 0) batch.labels.push_back(batch.input_ids.back());
    if (t + 1 < tokens) batch.label_rows.push_back(static_cast<int32_t>(t));
  }
  batch.cu_seqlens = {0, static_cast<int32_t>(tokens)};

  std::vector<double> seconds;
  double loss = 0;
  for (int64_t step = 0; step <= steps; ++step) {
    if (step == 1) {
      session.train_executor().set_profile(true);
      session.update_executor().set_profile(true);
    }
    const auto begin = std::chrono::steady_clock::now();
    loss = session.step({.micro_batches = {batch}}, {.learning_rate = 1e-4, .step = step + 1}).loss;
    if (step > 0)
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double rate = measured_product_rate(DType::bf16);
  std::printf("%-26s %6s %10s %8s %10s %9s\n", "op", "calls", "ms/step", "share", "GFLOP/s", "GB/s");
  std::vector<OpTime> times = session.train_executor().times();
  for (const OpTime& t : session.update_executor().times()) times.push_back(t);
  double total = 0;
  for (const OpTime& t : times) total += t.seconds;
  for (const OpTime& t : times)
    std::printf("%-26s %6lld %10.2f %7.1f%% %10.1f %9.2f\n", t.op.c_str(),
                static_cast<long long>(t.calls / steps), t.seconds * 1e3 / static_cast<double>(steps),
                100 * t.seconds / total, t.flops / t.seconds * 1e-9, t.bytes / t.seconds * 1e-9);
  const double flops = session.plan().step_cost().flops;
  std::printf("arena %s, states %s, step %.3f s, %.1f%% of the measured product rate (%.0f GFLOP/s)\n",
              human_bytes(session.plan().arena_bytes()).c_str(),
              human_bytes(session.states().bytes()).c_str(), median, 100 * flops / median / rate,
              rate * 1e-9);
  std::printf(
      "{\"tokens_per_second\": %.1f, \"peak_resident_bytes\": %lld, \"step_seconds\": %.4f, \"loss\": "
      "%.4f}\n",
      static_cast<double>(tokens) / median, static_cast<long long>(peak_resident_bytes()), median, loss);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_bench: %s\n", error.what());
    return 1;
  }
}
