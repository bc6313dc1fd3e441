#include "train/training_run.h"

#include <cmath>
#include <deque>

#include "base/background_task.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "base/signals.h"
#include "base/text.h"
#include "export/export.h"
#include "gemm/gemm.h"
#include "nn/weights.h"
#include "text/tokenizer_files.h"
#include "train/checkpoints.h"
#include "train/metrics.h"
#include "train/progress.h"
#include "train/text_tools.h"

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
    session_.set_observer(setup_.observer);
    catch_stop_signals();
    first_step_ = started_ = state_.step;
    state_.data = setup_.data.train->state();
    try {
      train();
    } catch (const DeviceError& error) {
      rescue(error);
    }
    progress_->finish();
    if (state_.step < setup_.total_steps) {
      save_checkpoint();
      log_info("stopped by a signal at step {}; continue with --resume-from-checkpoint", state_.step);
      return 128 + stop_signal();
    }
    writer_.wait();
    finish();
    return 0;
  }

 private:
  // A step that was started and whose figures have not arrived.
  struct Started {
    StepSettings settings;
    double epoch = 0;
    int64_t tokens = 0;
    Json data;  // the place in the data behind its batch
  };

  // A GPU is given the next step before the figures of the last one are read, so that it never waits; what
  // looks at the states or ends the run first collects all.
  void train() {
    const int64_t ahead = device_->asynchronous() ? 1 : 0;
    while (started_ < setup_.total_steps && !stop_requested()) {
      start_step();
      const bool evaluation = due(config_.eval_strategy, config_.eval_steps),
                 save = due(config_.save_strategy, config_.save_steps);
      collect_steps(evaluation || save ? 0 : ahead);
      if (evaluation) evaluate();
      if (save) save_checkpoint();
      if (writer_.failed()) writer_.wait();
    }
    collect_steps(0);
  }

  // The device failed, perhaps because another program took its memory. What was learned is saved where the
  // states are those of a whole step.
  [[noreturn]] void rescue(const DeviceError& error) {
    progress_->finish();
    std::string obstacle;
    try {
      writer_.wait();
      if (!session_.states_intact()) fail("the update of step {} was cut short", state_.step + 1);
      collect_steps(0);
      if (state_.step > first_step_) save_checkpoint(true);
    } catch (const UserError& second) {
      obstacle = second.what();
    }
    const auto saved = checkpoint_steps(config_.output_dir);
    const std::string last = saved.empty() ? "no checkpoint was saved before"
                                           : fmt::format("continue from {} with --resume-from-checkpoint",
                                                         checkpoint_path(config_.output_dir, saved.back()));
    if (!obstacle.empty())
      fail("{}; step {} could not be saved: {}; {}", error.what(), state_.step, obstacle, last);
    if (state_.step == first_step_) fail("{}; no step was done", error.what());
    fail("{}; step {} is saved: {}", error.what(), state_.step, last);
  }

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
      for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja",
                               "merged", "model.safetensors", "metrics.jsonl", "loss.svg", "tokenizer.json",
                               "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
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

  void start_step() {
    const StepBatch batch = setup_.data.train->next();
    const double factor = setup_.schedule.factor(started_);
    const StepSettings settings{
        .learning_rate = config_.learning_rate * factor,
        .embedding_learning_rate = config_.embedding_learning_rate.value_or(config_.learning_rate) * factor,
        .step = started_ + 1,
        .seed = static_cast<uint64_t>(config_.seed)};
    if (!prepared_) prepare(batch, settings);
    prepared_ = true;
    session_.start_step(batch, settings);
    in_flight_.push_back({settings, batch.epoch, batch.num_tokens, setup_.data.train->state()});
    ++started_;
  }

  void collect_steps(int64_t left) {
    while (session_.steps_in_flight() > left) {
      const StepResult result = session_.collect_step();
      const Started step = std::move(in_flight_.front());
      in_flight_.pop_front();
      take(step, result);
    }
  }

  // The figures of a step, in the order of the steps.
  void take(const Started& step, const StepResult& result) {
    const double lr = step.settings.learning_rate;
    if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
      writer_.wait();
      fail(
          "step {}: the loss is {} and the gradient norm {}; a lower learning_rate may help, --check-nan "
          "names the op "
          "where it began; the last checkpoint is unharmed",
          state_.step + 1, result.loss, result.grad_norm);
    }
    ++state_.step;
    state_.epoch = step.epoch;
    state_.data = step.data;
    state_.total_tokens += step.tokens;
    state_.window_loss += result.loss;
    state_.window_labels += result.labels;
    state_.window_tokens += step.tokens;
    ++state_.window_steps;
    const bool logged =
        state_.step % config_.logging_steps == 0 || state_.step == setup_.total_steps || state_.step == 1;
    progress_->update({.step = state_.step,
                       .loss = state_.window_loss / static_cast<double>(state_.window_steps),
                       .learning_rate = lr,
                       .grad_norm = result.grad_norm,
                       .tokens = step.tokens,
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
    const std::string table = product_table(device_->kind());
    if (!table.empty()) write_file_atomically(join_path(config_.output_dir, kProductTable), table);
  }

  // After the step that was started last.
  bool due(const std::string& strategy, int64_t steps) const {
    if (strategy == "steps") return steps > 0 && started_ % steps == 0;
    return strategy == "epoch" && started_ % setup_.steps_per_epoch == 0;
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

  // On the way it is written beside the training, from a copy of the states; the last one of a run, or where
  // `in_line` says so, is written from the states themselves.
  void save_checkpoint(bool in_line = false) {
    writer_.wait();
    if (last_saved_ == state_.step) return;
    in_line =
        in_line || setup_.checkpoint_copy_bytes == 0 || state_.step == setup_.total_steps || stop_requested();
    CheckpointFiles files{state_, trainer_state().dump(2) + "\n", product_table(device_->kind())};
    if (in_line) {
      write_checkpoint(files, session_.states());
      last_saved_ = state_.step;
      return;
    }
    if (!copy_) {
      copy_.emplace(*host_);
      copy_->declare(session_.states(),
                     checkpoint_states(session_.parameters(), session_.states(),
                                       setup_.adapter ? Role::adapter : Role::weight, setup_.saved.names));
      copy_->allocate();
    }
    copy_->copy_from(session_.states());
    last_saved_ = state_.step;
    writer_.start([this, files = std::move(files)] { write_checkpoint(files, *copy_); });
  }

  // What a checkpoint holds beside the states.
  struct CheckpointFiles {
    RunState run;
    std::string trainer_state, product_table;
  };

  // Reads nothing that training changes, but for `states`.
  void write_checkpoint(const CheckpointFiles& files, const StateStore& states) const {
    AtomicDirectory directory(checkpoint_path(config_.output_dir, files.run.step));
    write_training_state(directory.path(), files.run, session_.parameters(), states);
    if (setup_.adapter)
      write_adapter_files(directory.path(), states);
    else
      write_model(directory.path(), nullptr, states);
    write_file_atomically(join_path(directory.path(), "trainer_state.json"), files.trainer_state);
    write_file_atomically(join_path(directory.path(), "serval.yaml"), to_yaml(resolved_.settings));
    write_memory_options(directory.path(), session_.plan().options.memory);
    if (!files.product_table.empty())
      write_file_atomically(join_path(directory.path(), kProductTable), files.product_table);
    directory.commit();
    remove_old_checkpoints(config_.output_dir, config_.save_total_limit);
  }

  Json trainer_state() const {
    Json history = Json::object();
    history.set("epoch", Json(state_.epoch));
    history.set("global_step", Json(state_.step));
    history.set("log_history", Json(metrics_->history()));
    history.set("max_steps", Json(setup_.total_steps));
    history.set("num_input_tokens_seen", Json(state_.total_tokens));
    history.set("num_train_epochs", Json(config_.num_train_epochs));
    history.set("train_batch_size", Json(config_.per_device_train_batch_size));
    return history;
  }

  std::string template_source() const {
    return setup_.data.chat_template ? shipped_source(*setup_.data.chat_template, *setup_.data.tokenizer)
                                     : "";
  }

  void write_adapter_files(const std::string& directory, const StateStore& states) const {
    write_adapter(directory, *setup_.adapter, session_.parameters(), states, setup_.saved);
    if (setup_.data.ships_tokenizer) write_tokenizer(*setup_.data.tokenizer, directory);
    if (setup_.data.chat_template) write_chat_template(directory, template_source());
  }

  MergeReport write_model(const std::string& directory, const AdapterConfig* adapter,
                          const StateStore& states) const {
    MergedCheckpointOptions options;
    options.config_json = setup_.model.config_json();
    options.tokenizer = setup_.data.tokenizer_path;
    options.changed_tokenizer = &*setup_.data.tokenizer;
    options.token_ids = setup_.data.token_ids;
    if (!setup_.data.own_template) options.chat_template = template_source();
    options.adapter = adapter;
    options.dtype = setup_.model.stored_dtype();
    return write_merged_checkpoint(directory, options, session_.parameters(), states);
  }

  void finish() {
    // A run that was killed between a save and this may come back with nothing left to train.
    remove_old_checkpoints(config_.output_dir, config_.save_total_limit);
    metrics_->write_plot();
    if (setup_.adapter) {
      write_adapter_files(config_.output_dir, session_.states());
      log_info("adapter: {}", config_.output_dir);
      if (config_.merge) {
        const std::string path = join_path(config_.output_dir, "merged");
        AtomicDirectory directory(path);
        const MergeReport report = write_model(directory.path(), &*setup_.adapter, session_.states());
        directory.commit();
        log_info(
            "merged checkpoint: {} ({} modules; rounding to {} changes at most {:.2f} % of an adapter's "
            "part, in {})",
            path, report.merged_modules, name_of(setup_.model.stored_dtype()), 100 * report.worst,
            report.worst_module.empty() ? "none" : report.worst_module);
      }
    } else {
      write_model(config_.output_dir, nullptr, session_.states());
      log_info("checkpoint: {}", config_.output_dir);
    }
    const double seconds = progress_->seconds();
    log_info("{} steps in {}, peak memory {}", state_.step - first_step_, human_duration(seconds),
             human_bytes(peak_resident_bytes()));
  }

  TrainingSetup& setup_;
  const TrainConfig& config_;
  const ResolvedTrain& resolved_;
  std::shared_ptr<Device> device_;
  Session session_;
  RunState state_;  // after the last step whose figures have arrived
  int64_t first_step_ = 0, started_ = 0, last_saved_ = -1;
  std::deque<Started> in_flight_;
  bool prepared_ = false;
  std::string resumed_from_;  // a checkpoint, or ""
  std::optional<Metrics> metrics_;
  std::optional<Progress> progress_;
  std::unique_ptr<Device> host_ = make_cpu_device();
  std::optional<StateStore> copy_;
  BackgroundTask writer_;  // last: it ends before what it reads
};

}  // namespace

int run_training(TrainingSetup& setup, const ResolvedTrain& resolved) {
  return TrainingRun(setup, resolved).run();
}

}  // namespace serval
