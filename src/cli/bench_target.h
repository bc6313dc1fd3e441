// What the targets of `serval bench` share.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "base/json.h"
#include "config/arguments.h"
#include "models/decoder_config.h"
#include "run/executor.h"
#include "tensor/device.h"

namespace serval {

struct BenchTarget {
  const Settings& settings;
  Device& device;
  std::chrono::steady_clock::time_point start;

  bool gpu() const { return device.kind() != DeviceKind::cpu; }
  std::string device_name() const;
  int64_t number(const char* key, int64_t on_gpu, int64_t on_cpu) const {
    return settings.integer_or(key, gpu() ? on_gpu : on_cpu);
  }
  DType dtype() const { return settings.text("dtype") == "float32" ? DType::f32 : DType::bf16; }
};

struct BenchModel {
  std::string name;
  DecoderConfig config;
  Json json;  // that it was read from
};
// Of the keys shape and config; `usual` is the shape where neither is given.
BenchModel bench_model(const Settings& settings, const char* usual);

Json bench_head_json(const BenchTarget& target, const std::string& name);
Json ops_json(const std::vector<OpTime>& ops);
// The planned bytes, and what was really taken.
std::string memory_line(const BenchTarget& target, int64_t state_bytes, int64_t arena_bytes,
                        int64_t device_bytes, int64_t process_bytes);
std::string op_table(const std::vector<OpTime>& ops, const char* of);  // `of`: "one step"
std::string tera(double rate);

int bench_generate_target(const BenchTarget& target);
int bench_load_target(const BenchTarget& target);

}  // namespace serval
