// What `serval bench` measures: training of random weights, single ops, products, copies and the link between
// host and device. It prints nothing.
//
//   const auto device = make_device("auto");
//   const DecoderConfig model = read_decoder_config(shape_config("qwen3-8b"), "qwen3-8b");
//   const TrainBenchResult r = bench_train({.model = model, .batch_size = 2}, *device);
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "models/decoder_config.h"
#include "program/op.h"
#include "run/executor.h"
#include "tensor/device.h"
#include "train/step_programs.h"

namespace serval {

std::vector<std::string> shape_names();
// The values of config.json that make the shape; a UsageError names the nearest shape.
Json shape_config(const std::string& name);

struct TrainBench {
  DecoderConfig model;
  DType dtype = DType::bf16;
  int64_t batch_size = 1, max_length = 1024, accumulation = 1;
  int64_t steps = 3;       // timed, after one that is not
  int64_t lora_rank = 16;  // 0: all weights are trained
  Optimizer optimizer = Optimizer::adamw;
  MemoryOptions memory;
  bool packed = false;  // rows of several documents, their lengths log-normal; else one document a row
  bool graphs = true;
  bool deterministic = false;  // as in serval train
  bool op_times = true;        // one more step, entry by entry, that measures each call
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();  // of the program
};

struct TrainBenchResult {
  int64_t parameters = 0, trained_parameters = 0;
  int64_t step_tokens = 0;  // mean of the timed steps, padding not counted
  double tokens_per_second = 0, step_seconds = 0;
  double weights_seconds = 0;     // filling the weights with random numbers
  double first_step_seconds = 0;  // from the start of the program to the end of the first step
  int64_t arena_bytes = 0, state_bytes = 0;
  int64_t host_bytes = 0;    // of pinned memory, for layer inputs that wait there
  int64_t device_bytes = 0;  // by which the free memory of a GPU fell; on the CPU the most that was resident
  int64_t device_used_bytes = 0;  // of a GPU, by all programs: context and libraries included
  int64_t peak_resident_bytes = 0;
  double step_flops = 0, product_rate = 0;  // FLOP; FLOP/s of large products, measured after the steps
  double loss = 0;
  std::vector<OpTime> ops;  // of one step
  double share_of_product_rate() const { return step_flops / step_seconds / product_rate; }
};
TrainBenchResult bench_train(const TrainBench& bench, Device& device);

// One kind of call at one size, on operands that take turns so that no cache holds them.
struct CallRate {
  std::string title;
  std::string op;
  Cost cost;
  double seconds = 0;
};
// Each op at the sizes of a model; where `only` is set, those whose title holds it.
std::vector<CallRate> bench_ops(const DecoderConfig& model, int64_t tokens, const std::string& only,
                                Device& device);
// The products of a layer and the head, forward and backward, plain and with adapters of a rank (0: without).
// `full`: the backward product of the weights too.
std::vector<CallRate> bench_products(const DecoderConfig& model, int64_t tokens, int64_t lora_rank, bool full,
                                     const std::string& only, Device& device);

double device_product_rate(Device& device, DType dtype);  // FLOP/s of a large square product
double device_copy_rate(Device& device);                  // bytes a second, read and written

struct LinkRate {
  double to_device = 0, to_host = 0;  // bytes a second
};
LinkRate device_link_rate(Device& device);

}  // namespace serval
