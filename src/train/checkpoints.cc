#include "train/checkpoints.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "formats/safetensors.h"
#include "nn/weights.h"

namespace serval {
namespace {

constexpr const char* kPrefix = "checkpoint-";

bool all_digits(std::string_view text) {
  return !text.empty() && text.size() < 16 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

Json RunState::to_json() const {
  Json json = Json::object();
  json.set("step", Json(step));
  json.set("epoch", Json(epoch));
  json.set("data", data);
  json.set("window_loss", Json(window_loss));
  json.set("window_labels", Json(window_labels));
  json.set("window_tokens", Json(window_tokens));
  json.set("window_steps", Json(window_steps));
  json.set("total_tokens", Json(total_tokens));
  return json;
}

RunState RunState::from_json(const Json& json, const std::string& where) {
  try {
    RunState run;
    run.step = json.at("step").as_int();
    run.epoch = json.at("epoch").as_double();
    run.data = json.at("data");
    run.window_loss = json.at("window_loss").as_double();
    run.window_labels = json.at("window_labels").as_int();
    run.window_tokens = json.at("window_tokens").as_int();
    run.window_steps = json.at("window_steps").as_int();
    run.total_tokens = json.at("total_tokens").as_int();
    return run;
  } catch (const UserError& error) {
    fail("{}: {}", where, error.what());
  }
}

std::vector<std::string> trained_states(const ParameterTable& table, const StateStore& states) {
  std::vector<std::string> names;
  for (const Parameter& parameter : table.all()) {
    if (!parameter.trained()) continue;
    bool whole = false;
    for (const ParameterSlice& slice : parameter.slices) {
      if (!slice.trained) continue;
      if (states.contains(master_state(slice)))
        names.push_back(master_state(slice));
      else
        whole = true;
      for (const int which : {1, 2}) {
        names.push_back(moment_state(slice, which));
        if (states.contains(absmax_state(slice, which))) names.push_back(absmax_state(slice, which));
      }
    }
    if (whole) names.push_back(parameter.state);
  }
  return names;
}

std::vector<std::string> checkpoint_states(const ParameterTable& table, const StateStore& states, Role users,
                                           const std::set<std::string>& saved) {
  std::vector<std::string> names = trained_states(table, states);
  std::set<std::string> known(names.begin(), names.end());
  for (const Parameter& parameter : table.all()) {
    for (const ParameterSlice& slice : parameter.slices)
      if ((parameter.role == users || saved.contains(slice.name)) &&
          !(slice.trained && states.contains(master_state(slice))) && known.insert(parameter.state).second)
        names.push_back(parameter.state);
  }
  return names;
}

void write_training_state(const std::string& directory, const RunState& run, const ParameterTable& table,
                          const StateStore& states) {
  SafetensorsWriter writer(join_path(directory, "optimizer.safetensors"));
  for (const std::string& name : trained_states(table, states)) {
    const auto& state = states.state(name);
    writer.add(name, state.dtype, state.shape, [&states, name](void* target) { states.read(name, target); });
  }
  writer.write();
  write_file_atomically(join_path(directory, "state.json"), run.to_json().dump(2) + "\n");
}

RunState read_training_state(const std::string& directory, const ParameterTable& table, StateStore& states) {
  const std::string path = join_path(directory, "optimizer.safetensors");
  const SafetensorsFile file(path);
  const auto names = trained_states(table, states);
  for (const std::string& name : names) {
    const SafetensorsEntry* entry = file.find(name);
    if (entry == nullptr)
      fail("{}: the state '{}' is missing; the checkpoint is of a run with other settings", path, name);
    const auto& state = states.state(name);
    if (entry->dtype != state.dtype || shape_of(*entry, path) != state.shape)
      fail("{}: the state '{}' is {} {}, expected {} {}; the checkpoint is of a run with other settings",
           path, name, entry->format_dtype, to_string(shape_of(*entry, path)), name_of(state.dtype),
           to_string(state.shape));
    states.fill(name, 0, state.shape.elements(), [&](void* target, int64_t first, int64_t count) {
      file.read_elements(*entry, first, count, target, state.dtype);
    });
  }
  if (file.entries().size() != names.size())
    fail("{}: holds {} states, expected {}; the checkpoint is of a run with other settings", path,
         file.entries().size(), names.size());
  // What products read is the rounded master.
  for (const Parameter& parameter : table.all())
    for (const ParameterSlice& slice : parameter.slices)
      if (slice.trained && states.contains(master_state(slice))) round_master(parameter, slice, states);
  const std::string state_path = join_path(directory, "state.json");
  return RunState::from_json(Json::parse(read_file(state_path, 1 << 20), state_path), state_path);
}

std::vector<int64_t> checkpoint_steps(const std::string& output_dir) {
  std::vector<int64_t> steps;
  if (!directory_exists(output_dir)) return steps;
  for (const std::string& name : list_directory(output_dir)) {
    if (!name.starts_with(kPrefix)) continue;
    const std::string number = name.substr(std::string_view(kPrefix).size());
    if (all_digits(number)) steps.push_back(std::stoll(number));
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string resume_directory(const std::string& resume_from_checkpoint, const std::string& output_dir) {
  if (resume_from_checkpoint.empty()) return {};
  if (resume_from_checkpoint == "true") {
    const auto steps = checkpoint_steps(output_dir);
    return steps.empty() ? "" : checkpoint_path(output_dir, steps.back());
  }
  if (!directory_exists(resume_from_checkpoint))
    fail("resume_from_checkpoint: {}: no such directory", resume_from_checkpoint);
  return resume_from_checkpoint;
}

std::string checkpoint_path(const std::string& output_dir, int64_t step) {
  return join_path(output_dir, kPrefix + std::to_string(step));
}

void remove_old_checkpoints(const std::string& output_dir, std::optional<int64_t> keep) {
  if (!directory_exists(output_dir)) return;
  for (const std::string& name : list_directory(output_dir))
    if (name.find(".tmp-") != std::string::npos) remove_tree(join_path(output_dir, name));
  if (!keep) return;
  const auto steps = checkpoint_steps(output_dir);
  for (size_t i = 0; i + static_cast<size_t>(std::max<int64_t>(*keep, 1)) < steps.size(); ++i)
    remove_tree(checkpoint_path(output_dir, steps[i]));
}

}  // namespace serval
