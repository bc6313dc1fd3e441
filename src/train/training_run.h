// A training run from a resolved configuration to its files.
//
//   TrainingSetup setup = prepare_training(resolved.config);      // opens model and data, plans; reads no
//   weights log_line(describe_plan(setup)); run_training(setup, resolved);
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/train_config.h"
#include "data/batch_stream.h"
#include "export/export.h"
#include "models/pretrained.h"
#include "optim/schedule.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "train/memory_plan.h"
#include "train/session.h"

namespace serval {

struct TrainingData {
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  bool own_template = true;      // it is what the tokenizer's files hold
  std::string tokenizer_path;    // directory or file
  bool ships_tokenizer = false;  // an adapter without it would not be found the same tokens
  std::vector<std::pair<std::string, int32_t>> token_ids;  // "eos_token_id" ... that the configuration names
  std::unique_ptr<BatchStream> train;
  std::optional<Examples> eval;
  std::string cache_directory;  // "": nothing is kept
};

struct TrainingSetup {
  TrainConfig config;
  std::shared_ptr<Device> device;
  Pretrained model;
  std::optional<AdapterConfig> adapter;  // what is trained; absent for full fine-tuning
  SavedWeights saved;                    // weights that lie in the adapter whole
  std::string vocabulary;                // what becomes of the rows of embeddings and head; "": nothing
  TrainingData data;                     // empty for `serval plan` without a dataset
  SessionPlan plan;
  // Bytes of the host's copy that a checkpoint is written from while training goes on; 0: none is made.
  int64_t checkpoint_copy_bytes = 0;
  std::function<void(const OpCall&, const Executor&)> observer;  // of every call of the run; for tests
  int64_t steps_per_epoch = 0, total_steps = 0;
  Schedule schedule;
};

// Reads and tokenises the datasets, reports what was found, plans. `with_data` false: capacities come from
// batch size and max_length alone, and no dataset is opened. `device`: instead of the one that the
// configuration names.
TrainingSetup prepare_training(const TrainConfig& config, bool with_data,
                               std::shared_ptr<Device> device = nullptr);

// Trains, evaluates, saves. Returns the exit code: 0, or 130/143 when a signal ended it early (after saving).
int run_training(TrainingSetup& setup, const ResolvedTrain& resolved);

}  // namespace serval
