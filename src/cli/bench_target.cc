#include "cli/bench_target.h"

#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/text.h"
#include "train/bench.h"

namespace serval {

std::string BenchTarget::device_name() const {
  return gpu() ? device.name() : fmt::format("{} with {} threads", cpu_model(), num_threads());
}

BenchModel bench_model(const Settings& s, const char* usual) {
  std::string path = s.text_or("config", "");
  if (path.empty()) {
    const std::string name = s.text_or("shape", usual);
    const Json json = shape_config(name);
    return {name, read_decoder_config(json, name), json};
  }
  if (s.has("shape")) fail_usage("--shape and --config both say what the model is: give one of them");
  if (directory_exists(path)) path = join_path(path, "config.json");
  const Json json = Json::parse(read_file(path, 16 << 20), path);
  return {path, read_decoder_config(json, path), json};
}

Json bench_head_json(const BenchTarget& target, const std::string& name) {
  Json json = Json::object();
  json.set("target", Json(name));
  json.set("device", Json(target.device_name()));
  return json;
}

std::string tera(double rate) {
  return fmt::format("{:.3g}", rate / 1e12);
}

Json ops_json(const std::vector<OpTime>& ops) {
  Json list = Json::array();
  for (const OpTime& time : ops) {
    Json json = Json::object();
    json.set("op", Json(time.op));
    json.set("calls", Json(time.calls));
    json.set("seconds", Json(time.seconds));
    json.set("flops_per_second", Json(time.flops / time.seconds));
    json.set("bytes_per_second", Json(time.bytes / time.seconds));
    list.push_back(json);
  }
  return list;
}

std::string memory_line(const BenchTarget& target, int64_t state_bytes, int64_t arena_bytes,
                        int64_t device_bytes, int64_t process_bytes) {
  return fmt::format("memory    {}: states {}, arena {}; {}\n", human_bytes(arena_bytes + state_bytes),
                     human_bytes(state_bytes), human_bytes(arena_bytes),
                     target.gpu() ? "the device gave " + human_bytes(device_bytes)
                                  : "the process peaked at " + human_bytes(process_bytes));
}

std::string op_table(const std::vector<OpTime>& ops, const char* of) {
  double total = 0;
  for (const OpTime& time : ops) total += time.seconds;
  std::string text = fmt::format("\n{:<24}{:>7}{:>11}{:>9}{:>10}{:>9}\n", fmt::format("op, {}", of), "calls",
                                 "ms", "share", "TFLOP/s", "GB/s");
  for (const OpTime& time : ops)
    text += fmt::format("{:<24}{:>7}{:>11.3f}{:>7.1f} %{:>10}{:>9.0f}\n", time.op, time.calls,
                        time.seconds * 1e3, 100 * time.seconds / total, tera(time.flops / time.seconds),
                        time.bytes / time.seconds / 1e9);
  return text + fmt::format("{:<24}{:>7}{:>11.3f}\n", "sum", "", total * 1e3);
}

}  // namespace serval
