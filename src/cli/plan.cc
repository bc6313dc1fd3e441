#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/cli.h"
#include "program/print.h"
#include "tensor/cuda_device.h"
#include "train/device_profile.h"

namespace serval {
namespace {

struct PlanNumbers {
  MemoryPlan memory;
  double step_flops = 0;  // of an optimizer step at capacity
  int64_t step_tokens = 0;
  double step_seconds = 0;
  DeviceProfile profile;
};

PlanNumbers numbers_of(const TrainingSetup& setup, const std::optional<DeviceProfile>& profile) {
  PlanNumbers n;
  n.memory = memory_plan(setup);
  const double micro_batches = static_cast<double>(setup.config.gradient_accumulation_steps);
  n.step_flops = micro_batches * setup.plan.step_cost().flops + setup.plan.update_cost().flops;
  n.step_tokens = setup.plan.options.train_capacity.tokens * setup.config.gradient_accumulation_steps;
  n.profile = profile ? *profile : measure_device_profile(*setup.device, setup.model.compute());
  n.step_seconds = n.step_flops / (n.profile.product_rate * n.profile.efficiency);
  return n;
}

Json plan_json(const TrainingSetup& setup, const PlanNumbers& n) {
  Json memory = Json::object();
  for (const MemoryRow& row : n.memory.rows) memory.set(row.kind, Json(row.bytes));
  Json json = Json::object();
  json.set("parameters", Json(setup.model.config().parameter_count()));
  json.set("vocab_size", Json(setup.model.config().vocab_size));
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
  json.set("device", Json(setup.device->name()));
  json.set("free_bytes", Json(setup.device->free_memory()));
  json.set("fits", Json(n.memory.total <= setup.device->free_memory()));
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
  if (!setup.vocabulary.empty()) text += fmt::format("vocabulary: {}\n", setup.vocabulary);
  if (setup.plan.options.memory.recompute != Recompute::none)
    text += fmt::format("recompute: {}\n", describe_recompute(setup.plan.train));
  for (const MemoryRow& row : n.memory.rows)
    if (row.bytes > 0) text += fmt::format("  {:<22}{:>12}\n", row.kind, human_bytes(row.bytes));
  const int64_t free = setup.device->free_memory();
  text +=
      fmt::format("  {:<22}{:>12}, which {} in the {} free of {}\n", "total", human_bytes(n.memory.total),
                  n.memory.total <= free ? "fits" : "does not fit", human_bytes(free), setup.device->name());
  if (n.memory.pinned_host > 0)
    text += fmt::format("  {:<22}{:>12}\n", "pinned host memory", human_bytes(n.memory.pinned_host));
  text += fmt::format("step: at most {} tokens, {}FLOP, about {:.3g} s ({})", n.step_tokens,
                      human_count(n.step_flops), n.step_seconds, n.profile.name);
  if (setup.device->kind() == DeviceKind::cuda && !setup.config.deterministic)
    text +=
        "\norder of sums: cuDNN's attention backward adds in an order that differs from run to run; "
        "--deterministic takes Serval's own kernels";
  if (setup.data.train)
    text += fmt::format("\ndata: {} examples, {} tokens, {}", setup.data.train->examples().size(),
                        human_count(static_cast<double>(setup.data.train->examples().num_tokens())),
                        setup.data.cache_directory.empty()
                            ? "not kept (dataset_cache: false)"
                            : fmt::format("kept in {} (of at most {})", setup.data.cache_directory,
                                          human_bytes(setup.config.dataset_cache_limit)));
  if (setup.total_steps > 0)
    text += fmt::format("\nrun: {} steps, at most {}", setup.total_steps,
                        human_duration(n.step_seconds * static_cast<double>(setup.total_steps)));
  return text;
}

// nullptr: the device of this machine.
std::unique_ptr<Device> device_to_plan_for(const std::string& wanted,
                                           const std::optional<DeviceProfile>& profile) {
  std::unique_ptr<Device> described = profile ? device_of_profile(*profile) : nullptr;
  if (described != nullptr && wanted == "cpu")
    fail_usage("device is cpu but the profile is of {}: drop one of them", described->name());
  if (described == nullptr && wanted.starts_with("cuda") && find_cuda_devices().count == 0)
    fail("device {} cannot be used: {}; --profile plans for a GPU that is not here ({}, or a file)", wanted,
         find_cuda_devices().why_none, join(built_in_profiles(), ", "));
  return described;
}

}  // namespace

std::string describe_plan(const TrainingSetup& setup) {
  return plan_text(setup, numbers_of(setup, std::nullopt));
}

int run_plan(const Arguments& arguments) {
  Settings settings(train_table());
  for (const Key& key : train_table().keys())
    if (arguments.settings.given(key.name)) settings.copy_from(arguments.settings, key.name);
  const ResolvedTrain resolved = resolve_train(settings, false);
  std::optional<DeviceProfile> profile;
  if (const std::string given = arguments.settings.text_or("profile", ""); !given.empty())
    profile = read_device_profile(given);
  const TrainingSetup setup = prepare_training(resolved.config, !resolved.config.dataset.empty(),
                                               device_to_plan_for(resolved.config.device, profile));
  const PlanNumbers n = numbers_of(setup, profile);
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
