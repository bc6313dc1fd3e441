#include "train/memory_plan.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "train/checkpoints.h"
#include "train/training_run.h"

namespace serval {
namespace {

constexpr const char* kMemoryFile = "recompute.json";

MemoryPlan memory_of(const TrainingSetup& setup, const SessionPlan& session) {
  MemoryPlan plan;
  for (const auto& list : {session.states(), session.arena()})
    for (const MemoryRow& row : list) plan.rows.push_back(row);
  const bool on_gpu = setup.device->kind() == DeviceKind::cuda;
  // On a GPU the dataset and what leaves the arena stay with the host.
  if (on_gpu)
    plan.pinned_host = session.host_bytes();
  else if (session.host_bytes() > 0)
    plan.rows.push_back({"offloaded inputs", session.host_bytes()});
  if (!on_gpu && setup.data.train) plan.rows.push_back({"dataset", setup.data.train->memory_bytes()});
  if (!on_gpu) plan.rows.push_back({"checkpoint copy", setup.checkpoint_copy_bytes});
  plan.rows.push_back({"fixed overhead", on_gpu ? kCudaOverheadBytes : kFixedOverheadBytes});
  for (const MemoryRow& row : plan.rows) plan.total += row.bytes;
  return plan;
}

// What the plan may need. Where the user named no limit, a little of the free memory is left: a plan is known
// to be that close to what the driver gives.
int64_t memory_to_use(const TrainingSetup& setup) {
  constexpr int64_t kLeastMargin = int64_t{300} << 20;
  if (setup.config.memory_limit) return *setup.config.memory_limit;
  const int64_t available = setup.device->free_memory();
  return available - std::max(kLeastMargin, available / 50);
}

Recompute recompute_from_name(const std::string& name) {
  for (const Recompute r : {Recompute::none, Recompute::cheap, Recompute::blocks, Recompute::fitted})
    if (name == name_of(r)) return r;
  fail("recompute is '{}', expected none, cheap, blocks or fitted", name);
}

}  // namespace

MemoryPlan memory_plan(const TrainingSetup& setup) {
  return memory_of(setup, setup.plan);
}

SessionPlan plan_within_memory(const TrainingSetup& setup, SessionOptions options) {
  const TrainConfig& config = setup.config;
  options.memory.offload_inputs = config.activation_offloading;
  if (config.recompute != "auto") {
    options.memory.recompute = recompute_from_name(config.recompute);
    return plan_session(std::move(options));
  }
  const int64_t limit = memory_to_use(setup);
  const std::string resumed = resume_directory(config.resume_from_checkpoint, config.output_dir);
  if (!resumed.empty() && file_exists(join_path(resumed, kMemoryFile))) {
    SessionOptions earlier = options;
    earlier.memory = read_memory_options(resumed);
    earlier.memory.offload_inputs = options.memory.offload_inputs;
    SessionPlan plan = plan_session(std::move(earlier));
    if (memory_of(setup, plan).total <= limit) return plan;
    log_info("what {} recomputes does not fit the memory of this run: chosen again, with equal results",
             resumed);
  }
  SessionPlan plan = plan_session(options);
  const int64_t total = memory_of(setup, plan).total;
  if (total <= limit) return plan;
  const int64_t arena_budget = limit - (total - plan.arena_bytes());
  RecomputeChoice choice = fit_train_program(options.model, options.network, options.train_capacity,
                                             options.memory, arena_budget, options.device);
  options.memory.recompute = choice.fits && !choice.blocks ? Recompute::fitted : Recompute::blocks;
  if (options.memory.recompute == Recompute::fitted) options.memory.choice = std::move(choice);
  return plan_session(std::move(options));
}

void check_memory(const TrainingSetup& setup) {
  const MemoryPlan plan = memory_plan(setup);
  const int64_t available = setup.device->free_memory();
  const int64_t limit = std::min(available, setup.config.memory_limit.value_or(available));
  if (plan.pinned_host > 0) {
    const int64_t host = make_cpu_device()->free_memory();
    if (plan.pinned_host > host)
      fail(
          "activation_offloading needs {} of pinned host memory but {} is free; without it the layers' "
          "inputs "
          "stay on the device",
          human_bytes(plan.pinned_host), human_bytes(host));
  }
  if (plan.total <= limit) return;
  const MemoryOptions& memory = setup.plan.options.memory;
  std::vector<std::string> advice;
  if (memory.recompute == Recompute::blocks && !memory.offload_inputs &&
      setup.device->kind() == DeviceKind::cuda)
    advice.push_back("--activation-offloading");
  if (memory.recompute != Recompute::blocks) advice.push_back("--gradient-checkpointing");
  if (setup.config.per_device_train_batch_size > 1)
    advice.push_back(fmt::format("--per-device-train-batch-size {} with more --gradient-accumulation-steps",
                                 setup.config.per_device_train_batch_size / 2));
  if (setup.config.max_length > 256)
    advice.push_back(fmt::format("--max-length {}", setup.config.max_length / 2));
  if (!setup.adapter && setup.config.optim == "adamw_torch") advice.push_back("--optim adamw_8bit");
  if (!setup.adapter) advice.push_back("LoRA (--use-peft true)");
  fail(
      "the run needs {} but {} {}; less memory: {}", human_bytes(plan.total), human_bytes(limit),
      setup.config.memory_limit && *setup.config.memory_limit < available ? "is the memory_limit" : "is free",
      advice.empty() ? "a smaller model" : join(advice, ", or "));
}

void write_memory_options(const std::string& directory, const MemoryOptions& options) {
  Json json = Json::object();
  json.set("recompute", Json(name_of(options.recompute)));
  if (options.recompute == Recompute::fitted) {
    Json calls = Json::array();
    for (const std::string& call : options.choice.calls) calls.push_back(Json(call));
    json.set("calls", calls);
  }
  write_file_atomically(join_path(directory, kMemoryFile), json.dump(2) + "\n");
}

MemoryOptions read_memory_options(const std::string& directory) {
  const std::string path = join_path(directory, kMemoryFile);
  const Json json = Json::parse(read_file(path, 16 << 20), path);
  MemoryOptions options;
  try {
    options.recompute = recompute_from_name(json.at("recompute").as_string());
    if (options.recompute == Recompute::fitted)
      for (const Json& call : json.at("calls").as_array()) options.choice.calls.push_back(call.as_string());
  } catch (const UserError& error) {
    fail("{}: {}; without this file the choice is made again", path, error.what());
  }
  return options;
}

}  // namespace serval
