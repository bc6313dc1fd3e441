// Learning-rate schedules, as transformers' get_scheduler defines them: a factor of the base rate.
//
//   Schedule schedule{ScheduleKind::cosine, warmup_steps, total_steps};
//   double lr = learning_rate * schedule.factor(step);     // step counts from 0
#pragma once
#include <cstdint>
#include <string>

namespace serval {

enum class ScheduleKind { constant, linear, cosine };

struct Schedule {
  ScheduleKind kind = ScheduleKind::linear;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;

  double factor(int64_t step) const;
};

// "constant", "constant_with_warmup", "linear", "cosine".
ScheduleKind schedule_from_name(const std::string& name);

}  // namespace serval
