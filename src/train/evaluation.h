// Mean negative log-likelihood of a frozen model, with or without an adapter.
//
//   Evaluator evaluator(model, capacity, *device);
//   evaluator.add(batch);
//   double loss = evaluator.mean_nll();
#pragma once
#include <memory>

#include "data/batch_stream.h"
#include "models/pretrained.h"
#include "run/executor.h"

namespace serval {

class Evaluator {
 public:
  Evaluator(const Pretrained& model, const BatchCapacity& capacity, Device& device);
  void add(const MicroBatch& batch);
  double mean_nll() const;
  double accuracy() const;  // share of labels that are the likeliest token
  int64_t labels() const;
  Executor& executor() { return *executor_; }

 private:
  ParameterTable table_;
  StateStore states_;
  Buffer arena_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace serval
