#include <algorithm>

#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/cli.h"
#include "gemm/gemm.h"
#include "program/print.h"
#include "train/bench.h"

namespace serval {
namespace {

// How fast a device is: what the expected time is computed from.
struct DeviceProfile {
  std::string name;
  double product_rate = 0;  // FLOP/s of large products in the compute type
  double efficiency = 0.6;  // share of it that a step reaches
};

DeviceProfile profile_of(const TrainingSetup& setup, const std::string& path) {
  DeviceProfile profile;
  if (!path.empty()) {
    const Json json = Json::parse(read_file(path, 1 << 20), path);
    try {
      profile.name = json.at("name").as_string();
      profile.product_rate = json.at("product_flops_per_second").as_double();
      if (const Json* efficiency = json.find("efficiency")) profile.efficiency = efficiency->as_double();
    } catch (const UserError& error) {
      fail("{}: {}; expected {{\"name\", \"product_flops_per_second\", \"efficiency\"}}", path, error.what());
    }
    if (!(profile.product_rate > 0 && profile.efficiency > 0)) fail("{}: the rates must be positive", path);
    return profile;
  }
  if (setup.device->kind() == DeviceKind::cuda) {
    profile.name = setup.device->name() + ", measured now";
    profile.product_rate = device_product_rate(*setup.device, setup.model.compute());
    return profile;
  }
  profile.name = fmt::format("{} with {} threads, measured now", cpu_model(), num_threads());
  profile.product_rate = measured_product_rate(setup.model.compute());
  return profile;
}

struct PlanNumbers {
  MemoryPlan memory;
  double step_flops = 0;  // of an optimizer step at capacity
  int64_t step_tokens = 0;
  double step_seconds = 0;
  DeviceProfile profile;
};

PlanNumbers numbers_of(const TrainingSetup& setup, const std::string& profile_path) {
  PlanNumbers n;
  n.memory = memory_plan(setup);
  const double micro_batches = static_cast<double>(setup.config.gradient_accumulation_steps);
  n.step_flops = micro_batches * setup.plan.step_cost().flops + setup.plan.update_cost().flops;
  n.step_tokens = setup.plan.options.train_capacity.tokens * setup.config.gradient_accumulation_steps;
  n.profile = profile_of(setup, profile_path);
  n.step_seconds = n.step_flops / (n.profile.product_rate * n.profile.efficiency);
  return n;
}

Json plan_json(const TrainingSetup& setup, const PlanNumbers& n) {
  Json memory = Json::object();
  for (const MemoryRow& row : n.memory.rows) memory.set(row.kind, Json(row.bytes));
  Json json = Json::object();
  json.set("parameters", Json(setup.model.config().parameter_count()));
  json.set("trained_parameters", Json(setup.plan.trained_parameters()));
  json.set("recompute", Json(name_of(setup.plan.options.memory.recompute)));
  json.set("recomputed_flops", Json(recomputed_flops(setup.plan.train)));
  json.set("memory_bytes", memory);
  json.set("total_bytes", Json(n.memory.total));
  json.set("pinned_host_bytes", Json(n.memory.pinned_host));
  json.set("arena_bytes", Json(setup.plan.arena_bytes()));
  json.set("step_flops", Json(n.step_flops));
  json.set("step_tokens", Json(n.step_tokens));
  json.set("step_seconds", Json(n.step_seconds));
  json.set("profile", Json(n.profile.name));
  return json;
}

std::string plan_text(const TrainingSetup& setup, const PlanNumbers& n) {
  const int64_t parameters = setup.model.config().parameter_count(),
                trained = setup.plan.trained_parameters();
  std::string text =
      fmt::format("plan: {} parameters, {} trained ({:.2f} %), computed in {}, recompute {}\n",
                  human_count(static_cast<double>(parameters)), human_count(static_cast<double>(trained)),
                  100.0 * static_cast<double>(trained) / static_cast<double>(parameters),
                  name_of(setup.model.compute()), name_of(setup.plan.options.memory.recompute));
  if (setup.plan.options.memory.recompute != Recompute::none)
    text += fmt::format("recompute: {}\n", describe_recompute(setup.plan.train));
  for (const MemoryRow& row : n.memory.rows)
    if (row.bytes > 0) text += fmt::format("  {:<22}{:>12}\n", row.kind, human_bytes(row.bytes));
  text += fmt::format("  {:<22}{:>12}\n", "total", human_bytes(n.memory.total));
  if (n.memory.pinned_host > 0)
    text += fmt::format("  {:<22}{:>12}\n", "pinned host memory", human_bytes(n.memory.pinned_host));
  text += fmt::format("step: at most {} tokens, {}FLOP, about {:.3g} s ({})", n.step_tokens,
                      human_count(n.step_flops), n.step_seconds, n.profile.name);
  if (setup.device->kind() == DeviceKind::cuda && !setup.config.deterministic)
    text +=
        "\norder of sums: cuDNN's attention backward adds in an order that differs from run to run; "
        "--deterministic takes Serval's own kernels";
  if (setup.total_steps > 0)
    text += fmt::format("\nrun: {} steps, at most {}", setup.total_steps,
                        human_duration(n.step_seconds * static_cast<double>(setup.total_steps)));
  return text;
}

}  // namespace

std::string describe_plan(const TrainingSetup& setup, const std::string& profile_path) {
  return plan_text(setup, numbers_of(setup, profile_path));
}

int run_plan(const Arguments& arguments) {
  Settings settings(train_table());
  for (const Key& key : train_table().keys())
    if (arguments.settings.given(key.name)) settings.copy_from(arguments.settings, key.name);
  const ResolvedTrain resolved = resolve_train(settings, false);
  const TrainingSetup setup = prepare_training(resolved.config, !resolved.config.dataset.empty());
  const PlanNumbers n = numbers_of(setup, arguments.settings.text_or("profile", ""));
  if (arguments.settings.flag("json")) {
    print_result(plan_json(setup, n).dump(2) + "\n");
    return 0;
  }
  print_result(plan_text(setup, n) + "\n");
  if (arguments.settings.flag("program"))
    print_result("\n" + print_program(setup.plan.train) + "\n" + print_program(setup.plan.update));
  return 0;
}

}  // namespace serval
