// Text generation with a KV cache: one program appends a piece of the prompt to the cache, one appends a
// single token; both give the logits of the last position.
//
//   Generator generator({.model = config, .network = options, .capacity = 2048}, *device);
//   load_parameters(generator.parameters(), Role::weight, checkpoint, generator.states());
//   generator.generate(prompt_ids, {.max_new_tokens = 64, .stop_ids = {2}}, [&](int32_t id) { ...; return
//   true; });
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/decoder_config.h"
#include "nn/network.h"
#include "run/executor.h"
#include "run/state_store.h"

namespace serval {

struct GeneratorOptions {
  DecoderConfig model;
  NetworkOptions network;        // frozen: nothing is trained
  int64_t capacity = 0;          // tokens of prompt and answer together
  int64_t prefill_tokens = 256;  // the prompt is read in pieces of at most this many
};

struct Sampling {
  double temperature = 0;  // 0: the most likely token
  int64_t top_k = 0;       // 0: all
  double top_p = 1;
  uint64_t seed = 0;
  int64_t max_new_tokens = 256;
  std::vector<int32_t> stop_ids;  // end the answer; they are not part of it
};

enum class StopReason { stop_token, max_new_tokens, capacity, caller };

class Generator {
 public:
  Generator(GeneratorOptions options, Device& device);

  // `on_token` gets each new token and returns false to end. What the cache holds of an earlier call is
  // reused where the prompt begins with it.
  StopReason generate(std::span<const int32_t> prompt, const Sampling& sampling,
                      const std::function<bool(int32_t)>& on_token);
  // Logits after the last token of `ids`, [vocab_size] f32.
  std::vector<float> logits_after(std::span<const int32_t> ids);

  void set_check_nan(bool on);

  StateStore& states() { return states_; }
  const ParameterTable& parameters() const { return table_; }
  int64_t capacity() const { return options_.capacity; }

 private:
  Program build(const std::string& name, int64_t tokens);
  void append(std::span<const int32_t> ids);  // runs them; the logits of the last one are in the state
  void read_prompt(std::span<const int32_t> prompt);
  void read_logits();

  GeneratorOptions options_;
  ParameterTable table_;
  StateStore states_;
  Buffer arena_;
  std::unique_ptr<Executor> prefill_, decode_;
  std::vector<int32_t> cached_;  // tokens whose keys and values the cache holds
  std::vector<float> logits_;
};

// The token that `sampling` picks from logits; `step` numbers the draws.
int32_t sample_token(std::span<const float> logits, const Sampling& sampling, int64_t step);

}  // namespace serval
