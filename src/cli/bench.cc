#include "train/bench.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/bench_target.h"
#include "cli/cli.h"

namespace serval {
namespace {

using Target = BenchTarget;
using Model = BenchModel;

// The profile to add to, empty where there is none yet. It is of one device.
Json read_profile(const Target& target) {
  const std::string path = target.settings.text_or("profile", "");
  if (path.empty() || !file_exists(path)) return Json::object();
  Json profile = Json::parse(read_file(path, 1 << 20), path);
  const Json* name = profile.find("name");
  if (name != nullptr && *name != Json(target.device_name()))
    fail("{}: is the profile of another device ({}); give a new file", path, value_text(*name));
  return profile;
}

void write_profile(const Target& target, const Json& measured) {
  const std::string path = target.settings.text_or("profile", "");
  if (path.empty()) return;
  Json profile = read_profile(target);
  profile.set("name", Json(target.device_name()));
  profile.set("kind", Json(target.gpu() ? "cuda" : "cpu"));
  profile.set("memory_bytes", Json(target.device.total_memory()));
  for (const auto& [key, value] : measured.as_object()) profile.set(key, value);
  // Without it `serval plan` cannot use the file.
  if (!profile.contains("product_flops_per_second"))
    profile.set("product_flops_per_second", Json(device_product_rate(target.device, target.dtype())));
  write_file_atomically(path, profile.dump(2) + "\n");
}

Json train_json(const Target& target, const Model& model, const TrainBench& bench,
                const TrainBenchResult& r) {
  Json json = bench_head_json(target, "train");
  json.set("shape", Json(model.name));
  json.set("dtype", Json(name_of(bench.dtype)));
  json.set("parameters", Json(r.parameters));
  json.set("trained_parameters", Json(r.trained_parameters));
  json.set("lora_r", Json(bench.lora_rank));
  json.set("optim", Json(target.settings.text("optim")));
  json.set("recompute", Json(target.settings.text("recompute")));
  json.set("per_device_train_batch_size", Json(bench.batch_size));
  json.set("max_length", Json(bench.max_length));
  json.set("gradient_accumulation_steps", Json(bench.accumulation));
  json.set("packed", Json(bench.packed));
  json.set("graphs", Json(bench.graphs && target.gpu()));
  json.set("deterministic", Json(bench.deterministic || !target.gpu()));
  json.set("step_tokens", Json(r.step_tokens));
  json.set("tokens_per_second", Json(r.tokens_per_second));
  json.set("step_seconds", Json(r.step_seconds));
  json.set("first_step_seconds", Json(r.first_step_seconds));
  json.set("weights_seconds", Json(r.weights_seconds));
  json.set("peak_bytes", Json(r.arena_bytes + r.state_bytes));
  json.set("arena_bytes", Json(r.arena_bytes));
  json.set("state_bytes", Json(r.state_bytes));
  json.set("pinned_host_bytes", Json(r.host_bytes));
  json.set("device_bytes", Json(r.device_bytes));
  json.set("device_used_bytes", Json(r.device_used_bytes));
  json.set("peak_resident_bytes", Json(r.peak_resident_bytes));
  json.set("step_flops", Json(r.step_flops));
  json.set("product_flops_per_second", Json(r.product_rate));
  json.set("share_of_product_rate", Json(r.share_of_product_rate()));
  json.set("loss", Json(r.loss));
  json.set("ops", ops_json(r.ops));
  return json;
}

std::string train_text(const Target& target, const Model& model, const TrainBench& bench,
                       const TrainBenchResult& r) {
  std::string text = fmt::format(
      "{}: {} parameters, {} trained ({}), {}, {}, recompute {}{}\n{}\n"
      "a step: {} x {} tokens{} x {} = {} tokens\n\n",
      model.name, human_count(static_cast<double>(r.parameters)),
      human_count(static_cast<double>(r.trained_parameters)),
      bench.lora_rank > 0 ? fmt::format("LoRA r {}", bench.lora_rank) : "all weights", name_of(bench.dtype),
      target.settings.text("optim"), target.settings.text("recompute"),
      r.host_bytes > 0 ? fmt::format(", {} of layer inputs in host memory", human_bytes(r.host_bytes)) : "",
      target.device_name(), bench.batch_size, bench.max_length, bench.packed ? ", packed," : "",
      bench.accumulation, r.step_tokens);
  text += fmt::format("speed     {:.1f} tokens/s, {:.4g} s a step\n", r.tokens_per_second, r.step_seconds);
  text +=
      fmt::format("products  {:.1f} % of {} TFLOP/s, the rate of large products measured after the steps\n",
                  100 * r.share_of_product_rate(), tera(r.product_rate));
  text += fmt::format("start     {:.2f} s to the end of the first step, {:.2f} s of it random weights\n",
                      r.first_step_seconds, r.weights_seconds);
  text += memory_line(target, r.state_bytes, r.arena_bytes, r.device_bytes, r.peak_resident_bytes);
  if (r.ops.empty()) return text;
  return text + op_table(r.ops, "one step");
}

int bench_train_target(const Target& target) {
  const Settings& s = target.settings;
  const Model model = bench_model(s, "qwen3-0.6b");
  TrainBench bench{.model = model.config, .dtype = target.dtype()};
  bench.batch_size = target.number("per_device_train_batch_size", 2, 1);
  bench.max_length = target.number("max_length", 2048, 1024);
  bench.accumulation = target.number("gradient_accumulation_steps", 4, 1);
  bench.steps = s.integer("steps");
  bench.lora_rank = s.flag("full") ? 0 : s.integer("lora_r");
  bench.optimizer = optimizer_from_name(s.text("optim"));
  const std::string& recompute = s.text("recompute");
  bench.memory.recompute = recompute == "none"     ? Recompute::none
                           : recompute == "blocks" ? Recompute::blocks
                                                   : Recompute::cheap;
  bench.memory.offload_inputs = s.flag("activation_offloading");
  bench.packed = s.flag("packed");
  bench.graphs = s.flag("graphs");
  bench.deterministic = s.flag("deterministic");
  bench.op_times = s.flag("op_times");
  bench.start = target.start;
  const TrainBenchResult result = bench_train(bench, target.device);
  print_result(s.flag("json") ? train_json(target, model, bench, result).dump() + "\n"
                              : train_text(target, model, bench, result));
  Json measured = Json::object();
  measured.set("product_flops_per_second", Json(result.product_rate));
  measured.set("efficiency", Json(result.share_of_product_rate()));
  write_profile(target, measured);
  return 0;
}

// copy_rate 0: products, without a column for it.
void print_rates(const Target& target, const std::string& name, const std::string& shape, int64_t tokens,
                 const std::vector<CallRate>& rates, double copy_rate) {
  if (rates.empty())
    fail_usage("only is '{}': no {} has this in its name", target.settings.text("only"), name);
  if (target.settings.flag("json")) {
    Json json = bench_head_json(target, name);
    json.set("shape", Json(shape));
    json.set("tokens", Json(tokens));
    if (copy_rate > 0) json.set("copy_bytes_per_second", Json(copy_rate));
    Json calls = Json::array();
    for (const CallRate& rate : rates) {
      Json call = Json::object();
      call.set("name", Json(rate.title));
      call.set("op", Json(rate.op));
      call.set("seconds", Json(rate.seconds));
      call.set("flops_per_second", Json(rate.cost.flops / rate.seconds));
      call.set("bytes_per_second", Json(rate.cost.bytes / rate.seconds));
      if (copy_rate > 0) call.set("share_of_copy", Json(rate.cost.bytes / rate.seconds / copy_rate));
      calls.push_back(std::move(call));
    }
    json.set("calls", calls);
    print_result(json.dump() + "\n");
    return;
  }
  std::string text =
      fmt::format("{}, {} rows, {}\n{:<18}{:<24}{:>11}{:>10}{:>9}{}\n", shape, tokens, target.device_name(),
                  name, "op", "us", "TFLOP/s", "GB/s", copy_rate > 0 ? "  of copy" : "");
  for (const CallRate& rate : rates) {
    const double bytes = rate.cost.bytes / rate.seconds;
    text += fmt::format("{:<18}{:<24}{:>11.1f}{:>10}{:>9.0f}{}\n", rate.title, rate.op, rate.seconds * 1e6,
                        tera(rate.cost.flops / rate.seconds), bytes / 1e9,
                        copy_rate > 0 ? fmt::format("{:>7.1f} %", 100 * bytes / copy_rate) : "");
  }
  print_result(text);
}

int bench_gemm_target(const Target& target) {
  const Settings& s = target.settings;
  const Model model = bench_model(s, "qwen3-8b");
  const int64_t tokens = target.number("tokens", 4096, 256);
  const std::vector<CallRate> rates = bench_products(model.config, tokens, s.integer("lora_r"),
                                                     s.flag("full"), s.text_or("only", ""), target.device);
  print_rates(target, "gemm", model.name, tokens, rates, 0);
  if (!s.has("profile")) return 0;
  Json measured = Json::object();
  measured.set("product_flops_per_second", Json(device_product_rate(target.device, target.dtype())));
  write_profile(target, measured);
  return 0;
}

int bench_ops_target(const Target& target) {
  const Settings& s = target.settings;
  const Model model = bench_model(s, "qwen3-8b");
  const int64_t tokens = target.number("tokens", 4096, 256);
  const double copy_rate = device_copy_rate(target.device);
  print_rates(target, "ops", model.name, tokens,
              bench_ops(model.config, tokens, s.text_or("only", ""), target.device), copy_rate);
  Json measured = Json::object();
  measured.set("copy_bytes_per_second", Json(copy_rate));
  write_profile(target, measured);
  return 0;
}

int print_speeds(const Target& target, const std::string& name,
                 const std::vector<std::pair<const char*, double>>& speeds) {
  Json measured = Json::object(), json = bench_head_json(target, name);
  std::string text = target.device_name() + "\n";
  for (const auto& [what, rate] : speeds) {
    const std::string key = replace_all(what, " ", "_") + "_bytes_per_second";
    measured.set(key, Json(rate));
    json.set(key, Json(rate));
    text += fmt::format("{:<16}{:>9.1f} GB/s\n", what, rate / 1e9);
  }
  print_result(target.settings.flag("json") ? json.dump() + "\n" : text);
  write_profile(target, measured);
  return 0;
}

}  // namespace

int run_bench(const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  const Settings& s = arguments.settings;
  const std::string name = arguments.positionals.empty() ? "train" : arguments.positionals[0];
  const std::vector<std::string> names = {"train", "generate", "gemm", "ops", "copy", "link", "load"};
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    const std::string nearest = nearest_name(name, names);
    fail_usage("'{}' is nothing that bench measures{}; there are {}", name,
               nearest.empty() ? "" : ", did you mean '" + nearest + "'?", join(names, ", "));
  }
  set_num_threads(static_cast<int>(s.integer_or("num_threads", 0)));
  const auto device = make_device(s.text("device"));
  const Target target{s, *device, start};
  read_profile(target);  // one that cannot be written to is said at once
  if (name == "train") return bench_train_target(target);
  if (name == "generate") return bench_generate_target(target);
  if (name == "load") return bench_load_target(target);
  if (name == "gemm") return bench_gemm_target(target);
  if (name == "ops") return bench_ops_target(target);
  if (name == "copy") return print_speeds(target, name, {{"copy", device_copy_rate(*device)}});
  const LinkRate link = device_link_rate(*device);
  return print_speeds(target, name, {{"host to device", link.to_device}, {"device to host", link.to_host}});
}

}  // namespace serval
