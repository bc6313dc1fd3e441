#include "train/evaluation.h"

#include "train/session.h"

namespace serval {

Evaluator::Evaluator(const Pretrained& model, const BatchCapacity& capacity, Device& device)
    : states_(device) {
  Program program =
      build_eval_program(model.config(), model.network_options(), capacity, table_, device.kind());
  ArenaPlan plan = plan_arena(program);
  states_.declare(program);
  states_.allocate();
  arena_ = Buffer(device, plan.bytes);
  model.load_weights(table_, states_);
  model.load_adapter_weights(table_, states_);
  executor_ = std::make_unique<Executor>(std::move(program), std::move(plan), arena_.data(), states_);
}

void Evaluator::add(const MicroBatch& batch) {
  set_batch_inputs(*executor_, batch, 0);
  executor_->run();
}

namespace {
double sum(const StateStore& states, size_t index) {
  double values[4] = {};
  states.read("loss.sums", values);
  return values[index];
}
}  // namespace

int64_t Evaluator::labels() const {
  return static_cast<int64_t>(sum(states_, 3));
}
double Evaluator::mean_nll() const {
  return labels() > 0 ? sum(states_, 1) / sum(states_, 3) : 0;
}
double Evaluator::accuracy() const {
  return labels() > 0 ? sum(states_, 2) / sum(states_, 3) : 0;
}

}  // namespace serval
