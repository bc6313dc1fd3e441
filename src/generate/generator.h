// Text generation with a KV cache: programs of several sizes append tokens of one or more sequences to their
// caches and give the logits, and the likeliest token, of the last position of each.
//
//   Generator generator({.model = config, .network = options, .capacity = 2048}, *device);
//   load_parameters(generator.parameters(), Role::weight, checkpoint, generator.states());
//   generator.generate(prompt_ids, {.max_new_tokens = 64, .stop_ids = {2}}, [&](int32_t id) { ...; return
//   true; });
//
// With `sequences` in the options, generate_all() answers that many prompts at a time; a prompt that waits
// takes the place of the first that ends (continuous batching: Yu et al., "Orca", 2022).
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
  int64_t capacity = 0;          // tokens of a prompt and its answer together
  int64_t prefill_tokens = 256;  // prompts are read in pieces of at most this many
  int64_t sequences = 1;         // that are answered at a time
  bool graphs = true;            // on a GPU: decode by one call of the driver a token
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
  // Answers all prompts. `on_token` gets the index of the prompt and returns false to end that answer; tokens
  // of one prompt come in order, prompts take turns. `on_end` comes once a prompt. Draws depend on the seed,
  // the index of the prompt and the position in its answer, not on what is answered at the same time.
  void generate_all(std::span<const std::vector<int32_t>> prompts, const Sampling& sampling,
                    const std::function<bool(size_t, int32_t)>& on_token,
                    const std::function<void(size_t, StopReason)>& on_end);
  // Logits after the last token of `ids`, [vocab_size] f32.
  std::vector<float> logits_after(std::span<const int32_t> ids);

  void set_check_nan(bool on);

  StateStore& states() { return states_; }
  const ParameterTable& parameters() const { return table_; }
  int64_t capacity() const { return options_.capacity; }
  int64_t sequences() const { return options_.sequences; }
  int64_t arena_bytes() const { return arena_.bytes(); }
  Executor& decoder() { return *executors_.front().executor; }  // for measurements

 private:
  // Tokens that follow what the cache of a sequence holds.
  struct Piece {
    size_t sequence = 0;
    std::span<const int32_t> ids;
    bool wanted = false;  // the logits of its last token
  };
  // A prompt that a sequence has still to read.
  struct Reading {
    size_t sequence = 0;
    std::span<const int32_t> prompt;
  };
  struct Draw {
    int64_t step = 0, prompt = 0;
  };
  struct SizedExecutor {
    int64_t tokens = 0;
    std::unique_ptr<Executor> executor;
  };
  class Batch;

  Program build(const std::string& name, int64_t tokens);
  void check_prompt(std::span<const int32_t> prompt) const;
  // One run; at most a piece a sequence, in their order. Afterwards rows_ tells whose logits there are.
  void append(std::span<const Piece> pieces);
  // Prompts share runs; `on_rows` is called after each run that ends some of them.
  void read_prompts(std::span<const Reading> prompts, const std::function<void()>& on_rows);
  void read_logits();
  // One for each of rows_.
  std::vector<int32_t> next_tokens(std::span<const Draw> draws, const Sampling& sampling);
  [[noreturn]] void fail_nan(size_t row) const;

  GeneratorOptions options_;
  ParameterTable table_;
  StateStore states_;
  Buffer arena_;
  std::vector<SizedExecutor> executors_;      // smallest first; the first one takes a token of each sequence
  std::vector<std::vector<int32_t>> cached_;  // by sequence: tokens whose keys and values its cache holds
  std::vector<size_t> rows_;                  // sequences whose logits the last run gave
  std::vector<float> logits_;                 // of those rows, where they were read
};

// The token that `sampling` picks from logits; prompt and step number the draws.
int32_t sample_token(std::span<const float> logits, const Sampling& sampling, int64_t step,
                     int64_t prompt = 0);

}  // namespace serval
