#include "optim/schedule.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace serval {

double Schedule::factor(int64_t step) const {
  if (step < warmup_steps)
    return static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup_steps));
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
  switch (kind) {
    case ScheduleKind::constant:
      return 1;
    case ScheduleKind::linear:
      return std::max(0.0, static_cast<double>(total_steps - step) / span);
    case ScheduleKind::cosine:
      return std::max(0.0, 0.5 * (1 + std::cos(3.14159265358979323846 *
                                               static_cast<double>(step - warmup_steps) / span)));
  }
  return 1;
}

ScheduleKind schedule_from_name(const std::string& name) {
  if (name == "constant" || name == "constant_with_warmup") return ScheduleKind::constant;
  if (name == "linear") return ScheduleKind::linear;
  if (name == "cosine") return ScheduleKind::cosine;
  fail_usage("lr_scheduler_type '{}' is not known; expected linear, cosine, constant or constant_with_warmup",
             name);
}

}  // namespace serval
