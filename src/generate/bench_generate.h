// What `serval bench generate` measures: greedy answers of random weights to random prompts. It prints
// nothing.
//
//   const GenerateBenchResult r = bench_generate({.model = model, .batch_size = 32}, *device);
#pragma once
#include <chrono>
#include <cstdint>
#include <vector>

#include "models/decoder_config.h"
#include "run/executor.h"
#include "tensor/device.h"
#include "tensor/dtype.h"

namespace serval {

struct GenerateBench {
  DecoderConfig model;
  DType dtype = DType::bf16;
  int64_t batch_size = 1, prompt_length = 512, max_new_tokens = 128;
  bool graphs = true;
  bool op_times = true;  // one more token of each sequence, entry by entry, that measures each call
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();  // of the program
};

struct GenerateBenchResult {
  int64_t parameters = 0;
  double prompt_tokens_per_second = 0;  // from the first prompt to the first token of every answer
  // Of the tokens after the first of every answer, which come one a sequence and step.
  double tokens_per_second = 0, step_seconds = 0;
  int64_t weight_bytes = 0;  // that a step reads: an embedding that is no head gives single rows
  double copy_rate = 0;      // bytes a second, measured afterwards
  double weights_seconds = 0;
  double first_token_seconds = 0;  // from the start of the program to the first tokens
  int64_t arena_bytes = 0, state_bytes = 0;
  int64_t device_bytes = 0;  // by which the free memory of a GPU fell; on the CPU the most that was resident
  std::vector<OpTime> ops;   // of one step
  double share_of_copy_rate() const { return static_cast<double>(weight_bytes) / copy_rate / step_seconds; }
};
GenerateBenchResult bench_generate(const GenerateBench& bench, Device& device);

}  // namespace serval
