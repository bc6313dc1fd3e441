#include "train/session.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "gemm/gemm.h"

namespace serval {
namespace {

Cost total_cost(const Program& program) {
  Cost total;
  for (const OpCall& call : program.calls) {
    const Cost cost = cost_of(CallView{program, call});
    total.flops += cost.flops;
    total.bytes += cost.bytes;
  }
  return total;
}

bool has_input(const Program& program, std::string_view name) {
  return program.find(name) != kNone;
}

}  // namespace

int64_t SessionPlan::arena_bytes() const {
  return std::max({train_arena.bytes, update_arena.bytes, eval ? eval_arena.bytes : 0});
}

int64_t SessionPlan::host_bytes() const {
  return std::max({train_arena.host_bytes, update_arena.host_bytes, eval ? eval_arena.host_bytes : 0});
}

std::vector<MemoryRow> SessionPlan::states() const {
  std::map<Role, int64_t> bytes;
  std::map<std::string, bool, std::less<>> seen;
  for (const Program* program : {&train, &update, eval ? &*eval : nullptr}) {
    if (program == nullptr) continue;
    for (const TensorDecl& decl : program->tensors)
      if (decl.kind == TensorKind::state && decl.base == kNone && seen.emplace(decl.name, true).second)
        bytes[decl.role] += decl.shape.elements() * size_of(decl.dtype);
  }
  std::vector<MemoryRow> rows;
  for (const auto& [role, size] : bytes) rows.push_back({name_of(role), size});
  return rows;
}

std::vector<MemoryRow> SessionPlan::arena() const {
  const auto lives = lifetimes(train);
  const int64_t calls = static_cast<int64_t>(train.calls.size());
  std::vector<int64_t> alive(static_cast<size_t>(calls) + 1, 0);
  const auto bytes_of = [&](size_t id) {
    const TensorDecl& decl = train.tensors[id];
    const bool in_arena = train_arena.offsets[id] >= 0 && !decl.host;
    return in_arena ? decl.span_bytes() : 0;
  };
  for (size_t id = 0; id < train.tensors.size(); ++id) {
    const bool input = train.tensors[id].kind == TensorKind::input;
    if (bytes_of(id) == 0) continue;
    for (int64_t c = input ? 0 : lives[id].first; c <= (input ? calls - 1 : lives[id].last); ++c)
      alive[static_cast<size_t>(c)] += bytes_of(id);
  }
  const auto workspace = [&](int64_t c) {
    return workspace_of(CallView{train, train.calls[static_cast<size_t>(c)]});
  };
  int64_t peak = 0;
  for (int64_t c = 1; c < calls; ++c)
    if (alive[static_cast<size_t>(c)] + workspace(c) > alive[static_cast<size_t>(peak)] + workspace(peak))
      peak = c;
  std::map<Role, int64_t> bytes;
  for (size_t id = 0; id < train.tensors.size(); ++id) {
    const bool input = train.tensors[id].kind == TensorKind::input;
    if (bytes_of(id) > 0 && (input || (lives[id].first <= peak && peak <= lives[id].last)))
      bytes[train.tensors[id].role] += bytes_of(id);
  }
  bytes[Role::workspace] += workspace(peak);
  std::vector<MemoryRow> rows;
  int64_t named = 0;
  for (const auto& [role, size] : bytes) {
    rows.push_back({role == Role::gradient ? "activation gradients" : name_of(role), size});
    named += size;
  }
  rows.push_back({"arena gaps", arena_bytes() - named});
  return rows;
}

Cost SessionPlan::step_cost() const {
  return total_cost(train);
}
Cost SessionPlan::update_cost() const {
  return total_cost(update);
}

int64_t SessionPlan::trained_parameters() const {
  int64_t count = 0;
  for (const Parameter& parameter : parameters.all())
    for (const ParameterSlice& slice : parameter.slices)
      if (slice.trained) count += slice.shape.elements();
  return count;
}

SessionPlan plan_session(SessionOptions options) {
  SessionPlan plan;
  plan.train = build_train_program(options.model, options.network, options.train_capacity, options.memory,
                                   plan.parameters, options.device);
  plan.update = build_update_program(plan.parameters, options.update, options.device);
  if (options.eval_capacity)
    plan.eval = build_eval_program(options.model, options.network, *options.eval_capacity, plan.parameters,
                                   options.device);
  plan.train_arena = plan_arena(plan.train);
  plan.update_arena = plan_arena(plan.update);
  if (plan.eval) plan.eval_arena = plan_arena(*plan.eval);
  plan.options = std::move(options);
  return plan;
}

Session::Session(SessionPlan plan, Device& device) : plan_(std::move(plan)), states_(device) {
  states_.declare(plan_.train);
  states_.declare(plan_.update);
  if (plan_.eval) states_.declare(*plan_.eval);
  states_.allocate();
  arena_ = Buffer(device, plan_.arena_bytes());
  if (plan_.host_bytes() > 0) host_arena_ = Buffer::in_host(device, plan_.host_bytes());
  train_ = make_executor(plan_.train, plan_.train_arena);
  update_ = make_executor(plan_.update, plan_.update_arena);
  if (plan_.eval) eval_ = make_executor(*plan_.eval, plan_.eval_arena);
}

std::unique_ptr<Executor> Session::make_executor(Program program, ArenaPlan arena) {
  return std::make_unique<Executor>(std::move(program), std::move(arena), arena_.data(), states_,
                                    host_arena_.data());
}

void set_batch_inputs(Executor& executor, const MicroBatch& batch, float row_weight) {
  const auto count = [](int64_t n) { return std::vector<int32_t>{static_cast<int32_t>(n)}; };
  executor.set_input("num_tokens", count(batch.num_tokens()));
  executor.set_input("num_boundaries", count(batch.num_documents() + 1));
  executor.set_input("num_labels", count(batch.num_labels()));
  executor.set_input("input_ids", batch.input_ids);
  executor.set_input("position_ids", batch.position_ids);
  executor.set_input("cu_seqlens", batch.cu_seqlens);
  executor.set_input("label_rows", batch.label_rows);
  executor.set_input("labels", batch.labels);
  std::vector<float> weights = batch.weights;
  weights.resize(batch.labels.size(), 1.0f);
  for (float& weight : weights) weight *= row_weight;
  executor.set_input("row_weights", weights);
}

std::vector<double> Session::sums() {
  std::vector<double> values(4);
  states_.read("loss.sums", values.data());
  states_.zero("loss.sums");
  return values;
}

Executor& Session::executor_for(const MicroBatch& micro) {
  constexpr int64_t kSteps = 8, kLeast = 2, kMost = 6, kUnit = 64;
  const BatchCapacity& most = plan_.options.train_capacity;
  if (states_.device().kind() == DeviceKind::cpu) return *train_;  // it computes the rows that there are
  const int64_t step = std::max(kLeast, (micro.num_tokens() * kSteps + most.tokens - 1) / most.tokens);
  const int64_t tokens = (most.tokens * step / kSteps + kUnit - 1) / kUnit * kUnit;
  if (step > kMost || tokens < micro.num_tokens() || tokens >= most.tokens) return *train_;
  auto it = smaller_.find(tokens);
  if (it == smaller_.end()) {
    BatchCapacity capacity = most;
    capacity.tokens = tokens;
    capacity.labels = std::min(most.labels, tokens);
    capacity.longest = std::min(most.longest, tokens);
    ParameterTable parameters = plan_.parameters;
    const SessionOptions& o = plan_.options;
    Program program = build_train_program(o.model, o.network, capacity, o.memory, parameters, o.device);
    ArenaPlan arena = plan_arena(program);
    std::unique_ptr<Executor> executor;
    if (arena.bytes <= arena_.bytes() && arena.host_bytes <= host_arena_.bytes())
      executor = make_executor(std::move(program), std::move(arena));
    if (executor != nullptr) configure(*executor);
    it = smaller_.emplace(tokens, std::move(executor)).first;
  }
  return it->second == nullptr ? *train_ : *it->second;
}

void Session::configure(Executor& executor) {
  executor.set_check_nan(check_nan_ && &executor != eval_.get());
  executor.set_observer(observe_);
}

void Session::set_check_nan(bool on) {
  check_nan_ = on;
  for (Executor* executor : executors()) configure(*executor);
}

void Session::set_observer(std::function<void(const OpCall&, const Executor&)> observe) {
  observe_ = std::move(observe);
  for (Executor* executor : executors()) configure(*executor);
}

std::vector<Executor*> Session::executors() {
  std::vector<Executor*> all;
  for (Executor* executor : {train_.get(), update_.get(), eval_.get()})
    if (executor != nullptr) all.push_back(executor);
  for (auto& [tokens, executor] : smaller_)
    if (executor != nullptr) all.push_back(executor.get());
  return all;
}

std::vector<int64_t> Session::program_sizes() const {
  std::vector<int64_t> sizes;
  for (const auto& [tokens, executor] : smaller_)
    if (executor != nullptr) sizes.push_back(tokens);
  sizes.push_back(plan_.options.train_capacity.tokens);
  return sizes;
}

void Session::start_micro_step(Executor& executor, const MicroBatch& micro, float row_weight,
                               const StepSettings& settings, int64_t index) {
  set_batch_inputs(executor, micro, row_weight);
  if (has_input(executor.program(), "random"))
    executor.set_input("random",
                       std::vector<int64_t>{static_cast<int64_t>(settings.seed), settings.step, index});
  executor.run();
}

// Gradients and sums are zero at the beginning of a step; they are so again at the end.
void Session::warm_up(Executor& executor, const MicroBatch& micro, const StepSettings& settings) {
  if (!warm_.insert(&executor).second) return;
  Device& device = states_.device();
  set_product_tuning(device.kind(), preparation_.measure_products);
  if (&executor == eval_.get()) {
    set_batch_inputs(executor, micro, 0);
    executor.run();
  } else {
    start_micro_step(executor, micro, 0, settings, 0);
  }
  device.synchronize();
  set_product_tuning(device.kind(), false);
  for (const StateStore::State& state : states_.states())
    if (state.role == Role::gradient || state.name == "loss.sums") states_.zero(state.name);
  if (preparation_.graphs) executor.capture();
}

void Session::prepare(const StepBatch& batch, const StepSettings& settings,
                      const SessionPreparation& preparation) {
  if (states_.device().kind() == DeviceKind::cpu) return;
  prepared_ = true;
  preparation_ = preparation;
  for (const MicroBatch& micro : batch.micro_batches) warm_up(executor_for(micro), micro, settings);
  if (eval_ != nullptr) warm_up(*eval_, MicroBatch{}, settings);
  if (preparation_.graphs && !update_->captured()) update_->capture();
}

StepLabels Session::start_micro_steps(const StepBatch& batch, const StepSettings& settings) {
  StepLabels labels;
  double weight = 0;
  for (const MicroBatch& micro : batch.micro_batches) {
    labels.count += micro.num_labels();
    labels.weighted = labels.weighted || !micro.weights.empty();
    weight += micro.label_weight();
  }
  const float row_weight = labels.count > 0 ? static_cast<float>(1.0 / weight) : 0.0f;
  if (prepared_)
    for (const MicroBatch& micro : batch.micro_batches) warm_up(executor_for(micro), micro, settings);
  for (size_t i = 0; i < batch.micro_batches.size(); ++i)
    start_micro_step(executor_for(batch.micro_batches[i]), batch.micro_batches[i], row_weight, settings,
                     static_cast<int64_t>(i));
  return labels;
}

namespace {

constexpr int64_t kSumsBytes = 4 * sizeof(double), kStatsBytes = 2 * sizeof(double);

StepResult result_of(const double* sums, const StepLabels& labels) {
  StepResult result;
  result.labels = labels.count;
  if (labels.count > 0) {
    result.loss = labels.weighted ? sums[0] : sums[1] / static_cast<double>(labels.count);
    result.accuracy = sums[2] / static_cast<double>(labels.count);
  }
  return result;
}

}  // namespace

StepResult Session::accumulate(const StepBatch& batch, const StepSettings& settings) {
  const StepLabels labels = start_micro_steps(batch, settings);
  return result_of(sums().data(), labels);
}

void Session::start_step(const StepBatch& batch, const StepSettings& settings) {
  SERVAL_CHECK(in_flight_.size() < kMostInFlight, "a step is started before the last but one is collected");
  std::unique_ptr<Readback>& figures = figures_[next_slot_];
  if (figures == nullptr) figures = states_.device().make_readback(kSumsBytes + kStatsBytes);
  const StepLabels labels = start_micro_steps(batch, settings);
  figures->copy(0, states_.data("loss.sums"), kSumsBytes);
  states_.zero("loss.sums");
  update_->set_input("hyper",
                     std::vector<double>{settings.learning_rate, static_cast<double>(settings.step)});
  if (has_input(plan_.update, "embedding_hyper"))
    update_->set_input("embedding_hyper", std::vector<double>{settings.embedding_learning_rate,
                                                              static_cast<double>(settings.step)});
  if (has_input(plan_.update, "random"))
    update_->set_input("random", std::vector<int64_t>{static_cast<int64_t>(settings.seed), settings.step, 0});
  intact_ = false;
  update_->run();
  figures->copy(kSumsBytes, states_.data("optimizer.stats"), kStatsBytes);
  intact_ = true;
  in_flight_.push_back({next_slot_, labels});
  next_slot_ = (next_slot_ + 1) % kMostInFlight;
}

StepResult Session::collect_step() {
  SERVAL_CHECK(!in_flight_.empty(), "no step was started");
  const InFlight step = in_flight_.front();
  in_flight_.pop_front();
  const bool intact = std::exchange(intact_, false);  // where the device reports a failure of its work
  const auto* figures = static_cast<const double*>(figures_[step.slot]->wait());
  intact_ = intact;
  StepResult result = result_of(figures, step.labels);
  result.grad_norm = figures[kSumsBytes / sizeof(double)];
  return result;
}

StepResult Session::step(const StepBatch& batch, const StepSettings& settings) {
  SERVAL_CHECK(in_flight_.empty(), "steps are collected in their order");
  start_step(batch, settings);
  return collect_step();
}

std::pair<double, int64_t> Session::evaluate(const MicroBatch& batch) {
  SERVAL_CHECK(eval_ != nullptr);
  set_batch_inputs(*eval_, batch, 0);
  eval_->run();
  return {sums()[1], batch.num_labels()};
}

}  // namespace serval
