#include "train/bench_load.h"

#include <memory>

#include "base/error.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/bench_target.h"
#include "cli/cli.h"
#include "train/bench.h"

namespace serval {

int bench_load_target(const BenchTarget& target) {
  const Settings& s = target.settings;
  LoadBench bench{.model = s.text_or("model", ""), .dtype = target.dtype()};
  bench.lora_rank = s.flag("full") ? 0 : s.integer("lora_r");
  if (!bench.model.empty() && (s.has("shape") || s.has("config")))
    fail_usage(
        "--model is a checkpoint, --shape and --config ask for one of random weights: give one of them");
  std::string name = bench.model;
  std::unique_ptr<RandomCheckpoint> random;
  if (bench.model.empty()) {
    const BenchModel model = bench_model(s, "qwen3-0.6b");
    name = model.name + ", random weights";
    random = std::make_unique<RandomCheckpoint>(model.json, model.config, bench.dtype);
    bench.model = random->directory();
  }
  const LoadBenchResult r = bench_load(bench, target.device);
  if (s.flag("json")) {
    Json json = bench_head_json(target, "load");
    json.set("model", Json(name));
    json.set("dtype", Json(name_of(bench.dtype)));
    json.set("parameters", Json(r.parameters));
    json.set("file_bytes", Json(r.file_bytes));
    json.set("threads", Json(num_threads()));
    json.set("first_read_bytes_per_second", Json(r.first_read_rate()));
    json.set("second_read_bytes_per_second", Json(r.second_read_rate()));
    json.set("cold", Json(r.cold()));
    if (r.link_rate > 0) json.set("link_bytes_per_second", Json(r.link_rate));
    json.set("memory_seconds", Json(r.memory_seconds));
    json.set("load_seconds", Json(r.load_seconds));
    json.set("load_bytes_per_second", Json(r.load_rate()));
    json.set("share_of_limit", Json(r.share()));
    print_result(json.dump() + "\n");
    return 0;
  }
  std::string text =
      fmt::format("{}: {} parameters, {}\n{}\n\n", name, human_count(static_cast<double>(r.parameters)),
                  human_bytes(r.file_bytes), target.device_name());
  text += fmt::format("plain read, first     {:>7.2f} GB/s{}\n", r.first_read_rate() / 1e9,
                      r.cold() ? ", not all of it from the page cache" : ", from the page cache");
  text += fmt::format("plain read, second    {:>7.2f} GB/s, from the page cache if it has room\n",
                      r.second_read_rate() / 1e9);
  if (r.link_rate > 0) text += fmt::format("link to the device    {:>7.2f} GB/s\n", r.link_rate / 1e9);
  text += fmt::format("load into the states  {:>7.2f} GB/s in {:.3f} s, {:.1f} % of the slowest of these\n",
                      r.load_rate() / 1e9, r.load_seconds, 100 * r.share());
  text += fmt::format("first touch of the states' memory, not counted: {:.3f} s\n", r.memory_seconds);
  print_result(text);
  return 0;
}

}  // namespace serval
