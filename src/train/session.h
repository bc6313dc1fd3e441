// The programs, memory and executors of a training run: what happens between two batches. It knows no files
// and no datasets. plan_session() is a pure function and needs no memory; Session allocates exactly what it
// says.
//
//   SessionPlan plan = plan_session(options);
//   Session session(std::move(plan), *device);
//   load_parameters(session.parameters(), Role::weight, checkpoint, session.states());
//   StepResult r = session.step(batch, {.learning_rate = lr, .step = 1});
//
// or, so that a GPU never waits for the host: start_step() of the next batch before collect_step() of the
// last.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/batch_stream.h"
#include "plan/arena.h"
#include "run/executor.h"
#include "run/state_store.h"
#include "train/step_programs.h"

namespace serval {

struct SessionOptions {
  DeviceKind device = DeviceKind::cpu;
  DecoderConfig model;
  NetworkOptions network;
  BatchCapacity train_capacity;
  std::optional<BatchCapacity> eval_capacity;
  MemoryOptions memory;
  UpdateSettings update;
};

struct MemoryRow {
  std::string kind;  // "weights", "adapter", ...
  int64_t bytes = 0;
};

struct SessionPlan {
  SessionOptions options;
  ParameterTable parameters;
  Program train, update;
  std::optional<Program> eval;
  ArenaPlan train_arena, update_arena, eval_arena;

  int64_t arena_bytes() const;            // the largest of the programs'
  int64_t host_bytes() const;             // of pinned host memory, for tensors that leave the arena
  std::vector<MemoryRow> states() const;  // bytes by kind, without padding
  // What is alive in the training program's arena where most is, by kind; the rest of the arena is its last
  // row.
  std::vector<MemoryRow> arena() const;
  Cost step_cost() const;  // of one micro-step at capacity
  Cost update_cost() const;
  int64_t trained_parameters() const;
};
SessionPlan plan_session(SessionOptions options);

struct StepSettings {
  double learning_rate = 0;
  double embedding_learning_rate = 0;  // read where UpdateSettings::embedding_rate says so
  int64_t step = 0;                    // counted from 1
  uint64_t seed = 0;
};

struct StepResult {
  double loss = 0;       // mean over the labelled tokens of the whole step
  double grad_norm = 0;  // before clipping
  double accuracy = 0;   // share of labelled tokens whose prediction is right
  int64_t labels = 0;
};

// Writes a batch into the inputs of a training or evaluation program; every label weighs `row_weight`.
void set_batch_inputs(Executor& executor, const MicroBatch& batch, float row_weight);

struct SessionPreparation {
  bool graphs = true;
  bool measure_products = true;  // false: the library's first proposal, the same in every run
};

// The labels of an optimiser step. Where they do not all count alike, the loss is the weighted sum.
struct StepLabels {
  int64_t count = 0;
  bool weighted = false;
};

class Session {
 public:
  Session(SessionPlan plan, Device& device);

  // Before the first step on a GPU: from now on each program runs once before it is used, to choose the
  // products' algorithms and to load libraries; what it computed is forgotten, and it is captured as a graph.
  // Elsewhere it does nothing.
  void prepare(const StepBatch& batch, const StepSettings& settings,
               const SessionPreparation& preparation = {});
  // The micro-step programs that have been made, by tokens: a GPU computes whole capacities, so a smaller
  // batch is run by a smaller program (two to six eighths of the capacity).
  std::vector<int64_t> program_sizes() const;

  // Starts forward and backward of every micro-batch and the update; on a GPU it returns before they are
  // done. At most kMostInFlight steps may be started and not collected.
  void start_step(const StepBatch& batch, const StepSettings& settings);
  // What the oldest step that is not collected gave; waits for it.
  StepResult collect_step();
  int64_t steps_in_flight() const { return static_cast<int64_t>(in_flight_.size()); }
  static constexpr size_t kMostInFlight = 2;
  // Both at once.
  StepResult step(const StepBatch& batch, const StepSettings& settings);
  // False once an update was begun and failed: the states are those of no step.
  bool states_intact() const { return intact_; }
  // As step(), without the update: gradients stay in their states. For tests.
  StepResult accumulate(const StepBatch& batch, const StepSettings& settings);
  // Adds the micro-batch's sums; mean NLL = first / second.
  std::pair<double, int64_t> evaluate(const MicroBatch& batch);

  StateStore& states() { return states_; }
  const ParameterTable& parameters() const { return plan_.parameters; }
  const SessionPlan& plan() const { return plan_; }
  Executor& train_executor() { return *train_; }
  void set_check_nan(bool on);
  // Of every executor; see Executor::set_observer. For tests.
  void set_observer(std::function<void(const OpCall&, const Executor&)> observe);
  Executor* eval_executor() { return eval_.get(); }
  Executor& update_executor() { return *update_; }

 private:
  std::unique_ptr<Executor> make_executor(Program program, ArenaPlan arena);
  Executor& executor_for(const MicroBatch& micro);
  void start_micro_step(Executor& executor, const MicroBatch& micro, float row_weight,
                        const StepSettings& settings, int64_t index);
  void warm_up(Executor& executor, const MicroBatch& micro, const StepSettings& settings);
  StepLabels start_micro_steps(const StepBatch& batch, const StepSettings& settings);
  void configure(Executor& executor);
  std::vector<Executor*> executors();
  std::vector<double> sums();

  struct InFlight {
    size_t slot = 0;  // of figures_
    StepLabels labels;
  };

  SessionPlan plan_;
  StateStore states_;
  Buffer arena_, host_arena_;
  std::unique_ptr<Executor> train_, eval_, update_;
  std::map<int64_t, std::unique_ptr<Executor>> smaller_;  // by tokens
  std::set<const Executor*> warm_;
  bool prepared_ = false, check_nan_ = false, intact_ = true;
  std::function<void(const OpCall&, const Executor&)> observe_;
  std::array<std::unique_ptr<Readback>, kMostInFlight> figures_;  // loss.sums, then optimizer.stats
  size_t next_slot_ = 0;
  std::deque<InFlight> in_flight_;
  SessionPreparation preparation_;
};

}  // namespace serval
