// Checkpoints of a run: directories output_dir/checkpoint-<step> that appear whole or not at all. Everything
// a run needs to continue bit for bit:
//   adapter_model.safetensors + adapter_config.json, or model.safetensors of the trained weights (as users
//   load them) optimizer.safetensors   every state that training changes, by its name, exactly as it is in
//   memory state.json              step, position in the data, sums of the unfinished logging window
//   trainer_state.json      in the Hugging Face Trainer's schema, for dashboards
//   serval.yaml             the resolved configuration
//   recompute.json          what is computed again in backward
#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "nn/parameters.h"
#include "run/state_store.h"

namespace serval {

struct RunState {
  int64_t step = 0;
  double epoch = 0;
  Json data;               // of the batch stream
  double window_loss = 0;  // sums since the last logged step
  int64_t window_labels = 0, window_tokens = 0, window_steps = 0;
  int64_t total_tokens = 0;

  Json to_json() const;
  static RunState from_json(const Json& json, const std::string& where);
};

// The states that training changes: masters, moments, and trained parameters without a master.
std::vector<std::string> trained_states(const ParameterTable& table, const StateStore& states);

// All that a checkpoint is written from: these, and the parameters that users load: adapters or all weights,
// and those of `saved` by the names of their slices.
std::vector<std::string> checkpoint_states(const ParameterTable& table, const StateStore& states, Role users,
                                           const std::set<std::string>& saved = {});

void write_training_state(const std::string& directory, const RunState& run, const ParameterTable& table,
                          const StateStore& states);
// Restores every trained state, and the copies that products read.
RunState read_training_state(const std::string& directory, const ParameterTable& table, StateStore& states);

// checkpoint-<step> directories of a run, ascending by step; unfinished ones have other names and are not
// listed.
std::vector<int64_t> checkpoint_steps(const std::string& output_dir);
// Where a run goes on from, for the value of its key: "" (a fresh run), "true" (the newest checkpoint of
// output_dir; "" where there is none) or a directory, which must exist.
std::string resume_directory(const std::string& resume_from_checkpoint, const std::string& output_dir);
std::string checkpoint_path(const std::string& output_dir, int64_t step);
// Removes what a killed run left half-written, and all but the newest `keep` checkpoints.
void remove_old_checkpoints(const std::string& output_dir, std::optional<int64_t> keep);

}  // namespace serval
