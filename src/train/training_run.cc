#include "train/training_run.h"

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "base/signals.h"
#include "base/text.h"
#include "export/export.h"
#include "gemm/gemm.h"
#include "nn/weights.h"
#include "train/checkpoints.h"
#include "train/metrics.h"
#include "train/progress.h"

namespace serval {
namespace {

constexpr const char* kProductTable = "product_algorithms.txt";

class TrainingRun {
 public:
  TrainingRun(TrainingSetup& setup, const ResolvedTrain& resolved)
      : setup_(setup),
        config_(setup.config),
        resolved_(resolved),
        device_(setup.device),
        session_(std::move(setup.plan), *device_) {}

  int run() {
    const std::string resume = resume_directory(config_.resume_from_checkpoint, config_.output_dir);
    if (resume.empty() && !config_.resume_from_checkpoint.empty())
      log_info("{} holds no checkpoint yet: starting from the beginning", config_.output_dir);
    check_output_directory();
    resumed_from_ = resume;
    load(resume);
    prepare_output_directory(resume);
    metrics_.emplace(config_.output_dir, state_.step);
    progress_.emplace(state_.step, setup_.total_steps, config_.progress);
    session_.set_check_nan(config_.check_nan);
    catch_stop_signals();
    const int64_t first_step = state_.step;
    while (state_.step < setup_.total_steps && !stop_requested()) {
      one_step();
      if (due(config_.eval_strategy, config_.eval_steps)) evaluate();
      if (due(config_.save_strategy, config_.save_steps)) save_checkpoint();
    }
    progress_->finish();
    if (state_.step < setup_.total_steps) {
      save_checkpoint();
      log_info("stopped by a signal at step {}; continue with --resume-from-checkpoint", state_.step);
      return 128 + stop_signal();
    }
    finish(first_step);
    return 0;
  }

 private:
  // Before weights are read: what is wrong with the directory is said at once.
  void check_output_directory() const {
    make_directories(config_.output_dir);
    for (const std::string& source : {config_.model_name_or_path, config_.adapter_name_or_path})
      if (!source.empty() && same_directory(source, config_.output_dir))
        fail(
            "output_dir: {} is where the model is read from; choose another one, or nothing of it would be "
            "left to go back to",
            config_.output_dir);
    if (!config_.resume_from_checkpoint.empty() || config_.overwrite_output_dir) return;
    if (file_exists(join_path(config_.output_dir, "metrics.jsonl")) ||
        !checkpoint_steps(config_.output_dir).empty())
      fail(
          "{}: holds an earlier run; pass --overwrite-output-dir to replace it, or "
          "--resume-from-checkpoint to continue it",
          config_.output_dir);
  }

  // After weights are read: a model that cannot be loaded leaves an earlier run as it is.
  void prepare_output_directory(const std::string& resume) const {
    if (resume.empty() && config_.resume_from_checkpoint.empty()) {
      // Nothing of the earlier run may pass for a result of this one.
      for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "merged",
                               "model.safetensors", "metrics.jsonl", "loss.svg"})
        remove_tree(join_path(config_.output_dir, name));
      for (const int64_t step : checkpoint_steps(config_.output_dir))
        remove_tree(checkpoint_path(config_.output_dir, step));
    }
    remove_old_checkpoints(config_.output_dir, std::nullopt);
    write_file_atomically(join_path(config_.output_dir, "serval.yaml"), to_yaml(resolved_.settings));
    write_memory_options(config_.output_dir, session_.plan().options.memory);
  }

  void load(const std::string& resume) {
    const ParameterTable& table = session_.parameters();
    setup_.model.load_weights(table, session_.states(), static_cast<uint64_t>(config_.seed));
    if (setup_.adapter) {
      if (setup_.model.adapter())
        setup_.model.load_adapter_weights(table, session_.states());
      else
        initialize_adapter(table);
    }
    if (resume.empty()) return;
    state_ = read_training_state(resume, table, session_.states());
    setup_.data.train->restore(state_.data, join_path(resume, "state.json"));
    if (state_.step >= setup_.total_steps)
      log_info("{} is at step {} of {}: nothing is left to train", resume, state_.step, setup_.total_steps);
    else
      log_info("continuing from {} at step {}", resume, state_.step);
  }

  void initialize_adapter(const ParameterTable& table) {
    initialize_parameters(table, Role::adapter, 0, static_cast<uint64_t>(config_.seed), session_.states());
  }

  void one_step() {
    const StepBatch batch = setup_.data.train->next();
    const double lr = config_.learning_rate * setup_.schedule.factor(state_.step);
    const StepSettings settings{
        .learning_rate = lr, .step = state_.step + 1, .seed = static_cast<uint64_t>(config_.seed)};
    if (!prepared_) prepare(batch, settings);
    prepared_ = true;
    const StepResult result = session_.step(batch, settings);
    if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm))
      fail(
          "step {}: the loss is {} and the gradient norm {}; a lower learning_rate may help, --check-nan "
          "names the op "
          "where it began; the last checkpoint is unharmed",
          state_.step + 1, result.loss, result.grad_norm);
    ++state_.step;
    state_.epoch = batch.epoch;
    state_.total_tokens += batch.num_tokens;
    state_.window_loss += result.loss;
    state_.window_labels += result.labels;
    state_.window_tokens += batch.num_tokens;
    ++state_.window_steps;
    const bool logged =
        state_.step % config_.logging_steps == 0 || state_.step == setup_.total_steps || state_.step == 1;
    progress_->update({.step = state_.step,
                       .loss = state_.window_loss / static_cast<double>(state_.window_steps),
                       .learning_rate = lr,
                       .grad_norm = result.grad_norm,
                       .tokens = batch.num_tokens,
                       .logged = logged});
    if (!logged) return;
    Json entry = Json::object();
    entry.set("step", Json(state_.step));
    entry.set("epoch", Json(state_.epoch));
    entry.set("loss", Json(state_.window_loss / static_cast<double>(state_.window_steps)));
    entry.set("learning_rate", Json(lr));
    entry.set("grad_norm", Json(result.grad_norm));
    entry.set("mean_token_accuracy", Json(result.accuracy));
    entry.set("num_tokens", Json(state_.total_tokens));
    metrics_->record(entry);
    state_.window_loss = 0;
    state_.window_labels = state_.window_tokens = state_.window_steps = 0;
  }

  // On a GPU the products' algorithms are measured once a run; a run that goes on takes what it began with.
  void prepare(const StepBatch& batch, const StepSettings& settings) {
    if (!resumed_from_.empty()) {
      const std::string table = join_path(resumed_from_, kProductTable);
      if (file_exists(table)) load_product_table(device_->kind(), read_file(table, 16 << 20));
    }
    session_.prepare(batch, settings, {.graphs = config_.graphs, .measure_products = !config_.deterministic});
    write_product_table(config_.output_dir);
  }

  void write_product_table(const std::string& directory) const {
    const std::string table = product_table(device_->kind());
    if (!table.empty()) write_file_atomically(join_path(directory, kProductTable), table);
  }

  bool due(const std::string& strategy, int64_t steps) const {
    if (strategy == "steps") return steps > 0 && state_.step % steps == 0;
    return strategy == "epoch" && state_.step % setup_.steps_per_epoch == 0;
  }

  void evaluate() {
    if (!setup_.data.eval) return;
    EvaluationBatches batches(*setup_.data.eval, config_.per_device_eval_batch_size);
    double nll = 0;
    int64_t labels = 0;
    while (const auto batch = batches.next()) {
      const auto [sum, count] = session_.evaluate(*batch);
      nll += sum;
      labels += count;
    }
    const double loss = labels > 0 ? nll / static_cast<double>(labels) : 0;
    progress_->message(
        fmt::format("eval at step {}: loss {:.4f}, perplexity {:.3f}", state_.step, loss, std::exp(loss)));
    Json entry = Json::object();
    entry.set("step", Json(state_.step));
    entry.set("epoch", Json(state_.epoch));
    entry.set("eval_loss", Json(loss));
    metrics_->record(entry);
  }

  void save_checkpoint() {
    const std::string path = checkpoint_path(config_.output_dir, state_.step);
    if (last_saved_ == state_.step) return;
    state_.data = setup_.data.train->state();
    AtomicDirectory directory(path);
    write_training_state(directory.path(), state_, session_.parameters(), session_.states());
    if (setup_.adapter)
      write_adapter(directory.path(), *setup_.adapter, session_.parameters(), session_.states());
    else
      write_model(directory.path(), nullptr);
    Json history = Json::object();
    history.set("epoch", Json(state_.epoch));
    history.set("global_step", Json(state_.step));
    history.set("log_history", Json(metrics_->history()));
    history.set("max_steps", Json(setup_.total_steps));
    history.set("num_input_tokens_seen", Json(state_.total_tokens));
    history.set("num_train_epochs", Json(config_.num_train_epochs));
    history.set("train_batch_size", Json(config_.per_device_train_batch_size));
    write_file_atomically(join_path(directory.path(), "trainer_state.json"), history.dump(2) + "\n");
    write_file_atomically(join_path(directory.path(), "serval.yaml"), to_yaml(resolved_.settings));
    write_memory_options(directory.path(), session_.plan().options.memory);
    write_product_table(directory.path());
    directory.commit();
    last_saved_ = state_.step;
    remove_old_checkpoints(config_.output_dir, config_.save_total_limit);
  }

  MergeReport write_model(const std::string& directory, const AdapterConfig* adapter) {
    MergeOptions options;
    options.config_json = setup_.model.config_json();
    options.model_directory = config_.tokenizer_name_or_path.empty()
                                  ? setup_.model.directory()
                                  : resolve_model(config_.tokenizer_name_or_path);
    options.adapter = adapter;
    options.dtype = setup_.model.stored_dtype();
    return write_merged_checkpoint(directory, options, session_.parameters(), session_.states());
  }

  void finish(int64_t first_step) {
    metrics_->write_plot();
    if (setup_.adapter) {
      write_adapter(config_.output_dir, *setup_.adapter, session_.parameters(), session_.states());
      log_info("adapter: {}", config_.output_dir);
      if (config_.merge) {
        const std::string path = join_path(config_.output_dir, "merged");
        AtomicDirectory directory(path);
        const MergeReport report = write_model(directory.path(), &*setup_.adapter);
        directory.commit();
        log_info(
            "merged checkpoint: {} ({} modules; rounding to {} changes at most {:.2f} % of an adapter's "
            "part, in {})",
            path, report.merged_modules, name_of(setup_.model.stored_dtype()), 100 * report.worst,
            report.worst_module.empty() ? "none" : report.worst_module);
      }
    } else {
      write_model(config_.output_dir, nullptr);
      log_info("checkpoint: {}", config_.output_dir);
    }
    const double seconds = progress_->seconds();
    log_info("{} steps in {}, peak memory {}", state_.step - first_step, human_duration(seconds),
             human_bytes(peak_resident_bytes()));
  }

  TrainingSetup& setup_;
  const TrainConfig& config_;
  const ResolvedTrain& resolved_;
  std::shared_ptr<Device> device_;
  Session session_;
  RunState state_;
  int64_t last_saved_ = -1;
  bool prepared_ = false;
  std::string resumed_from_;  // a checkpoint, or ""
  std::optional<Metrics> metrics_;
  std::optional<Progress> progress_;
};

}  // namespace

int run_training(TrainingSetup& setup, const ResolvedTrain& resolved) {
  return TrainingRun(setup, resolved).run();
}

}  // namespace serval
