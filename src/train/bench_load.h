// Reading the weights of a checkpoint into the states of a training run, against a plain parallel read of the
// same files and against the link to a GPU. Nothing is written, and no cache is dropped.
//
//   const LoadBenchResult r = bench_load({.model = "./Qwen3-0.6B"}, *device);
//   r.load_rate(), r.share()
#pragma once
#include <cstdint>
#include <string>

#include "base/json.h"
#include "models/decoder_config.h"
#include "tensor/device.h"
#include "tensor/dtype.h"

namespace serval {

struct LoadBench {
  std::string model;  // a Hugging Face model directory
  DType dtype = DType::bf16;
  int64_t lora_rank = 16;  // as in training: on a GPU adapters lie beside their weights; 0: none
};

struct LoadBenchResult {
  int64_t file_bytes = 0, tensor_bytes = 0, parameters = 0;
  // Of the files, to memory, by as many threads as load: as the page cache held them, and once more.
  double first_read_seconds = 0, second_read_seconds = 0;
  double memory_seconds = 0;  // the first touch of the states' memory, before the load
  double load_seconds = 0;    // after both, to the last byte in its place
  double link_rate = 0;       // bytes a second of pinned memory to a GPU; 0 on the CPU

  double load_rate() const { return static_cast<double>(tensor_bytes) / load_seconds; }
  double first_read_rate() const { return static_cast<double>(file_bytes) / first_read_seconds; }
  double second_read_rate() const { return static_cast<double>(file_bytes) / second_read_seconds; }
  // The page cache did not hold the files, or not all of them.
  bool cold() const { return first_read_seconds > 1.5 * second_read_seconds; }
  double limit() const;  // the slower of reading, as the load found the cache, and the link
  double share() const { return load_rate() / limit(); }
};

LoadBenchResult bench_load(const LoadBench& bench, Device& device);

// A checkpoint of random weights in a directory of its own, which the end of its life removes.
class RandomCheckpoint {
 public:
  RandomCheckpoint(const Json& config_json, const DecoderConfig& config, DType dtype);
  ~RandomCheckpoint();
  RandomCheckpoint(const RandomCheckpoint&) = delete;
  RandomCheckpoint& operator=(const RandomCheckpoint&) = delete;
  const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
};

}  // namespace serval
