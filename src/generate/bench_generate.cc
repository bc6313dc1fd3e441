#include "generate/bench_generate.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "base/error.h"
#include "base/philox.h"
#include "base/process.h"
#include "generate/generator.h"
#include "train/bench.h"
#include "train/bench_data.h"

namespace serval {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

std::vector<std::vector<int32_t>> random_prompts(int64_t count, int64_t length, int64_t vocab_size,
                                                 uint64_t seed) {
  std::vector<std::vector<int32_t>> prompts(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const PhiloxKey key = philox_key(seed, "prompt", static_cast<uint32_t>(i), 0);
    for (int64_t t = 0; t < length; ++t)
      prompts[static_cast<size_t>(i)].push_back(static_cast<int32_t>(
          philox_u32(key, static_cast<uint64_t>(t)) % static_cast<uint32_t>(vocab_size)));
  }
  return prompts;
}

struct Times {
  Clock::time_point begin, first_tokens, end;
};
// Every prompt has a sequence of its own, so after the first tokens all sequences decode together.
Times answer(
    Generator& generator, const std::vector<std::vector<int32_t>>& prompts, int64_t new_tokens,
    const std::function<void()>& on_first_tokens = [] {}) {
  Times times;
  size_t tokens = 0;
  times.begin = times.first_tokens = Clock::now();
  generator.generate_all(
      prompts, {.max_new_tokens = new_tokens},
      [&](size_t, int32_t) {
        if (++tokens == prompts.size()) {
          times.first_tokens = Clock::now();
          on_first_tokens();
        }
        return true;
      },
      [](size_t, StopReason) {});
  times.end = Clock::now();
  SERVAL_CHECK(tokens == prompts.size() * static_cast<size_t>(new_tokens));
  return times;
}

}  // namespace

GenerateBenchResult bench_generate(const GenerateBench& bench, Device& device) {
  SERVAL_CHECK(bench.batch_size > 0 && bench.prompt_length > 0 && bench.max_new_tokens > 1);
  const int64_t free_before = device.free_memory();
  GenerateBenchResult result;
  GeneratorOptions options;
  options.model = bench.model;
  options.network.compute = bench.dtype;
  options.capacity = bench.prompt_length + bench.max_new_tokens;
  options.sequences = bench.batch_size;
  options.graphs = bench.graphs;
  Generator generator(options, device);
  StateStore& states = generator.states();

  const auto begin = Clock::now();
  load_parameters(generator.parameters(), Role::weight,
                  RandomWeights(generator.parameters(), bench.model.initializer_range), states);
  device.synchronize();
  result.weights_seconds = seconds_between(begin, Clock::now());
  result.parameters = bench.model.parameter_count();
  result.weight_bytes = states.bytes_of(Role::weight);
  if (!bench.model.tie_word_embeddings)
    result.weight_bytes -= bench.model.vocab_size * bench.model.hidden_size * size_of(bench.dtype);
  result.arena_bytes = generator.arena_bytes();
  result.state_bytes = states.bytes();

  const int64_t vocab = bench.model.vocab_size;
  // Libraries are loaded and the graph is captured before anything is timed.
  const Times first = answer(generator, random_prompts(bench.batch_size, bench.prompt_length, vocab, 1), 2);
  result.first_token_seconds = seconds_between(bench.start, first.first_tokens);
  const Times times = answer(generator, random_prompts(bench.batch_size, bench.prompt_length, vocab, 2),
                             bench.max_new_tokens);
  const auto batch = static_cast<double>(bench.batch_size),
             steps = static_cast<double>(bench.max_new_tokens - 1);
  result.prompt_tokens_per_second =
      batch * static_cast<double>(bench.prompt_length) / seconds_between(times.begin, times.first_tokens);
  result.step_seconds = seconds_between(times.first_tokens, times.end) / steps;
  result.tokens_per_second = batch / result.step_seconds;
  result.device_bytes =
      device.kind() == DeviceKind::cpu ? peak_resident_bytes() : free_before - device.free_memory();
  if (bench.op_times) {
    answer(generator, random_prompts(bench.batch_size, bench.prompt_length, vocab, 3), 2,
           [&] { generator.decoder().set_profile(true); });
    generator.decoder().set_profile(false);
    for (OpTime& time : generator.decoder().times())
      if (time.calls > 0) result.ops.push_back(std::move(time));
  }
  result.copy_rate = device_copy_rate(device);
  return result;
}

}  // namespace serval
