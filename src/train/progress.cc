#include "train/progress.h"

#include <fmt/core.h>

#include <cstdio>

#include "base/log.h"
#include "base/process.h"
#include "base/text.h"

namespace serval {

Progress::Progress(int64_t first_step, int64_t total_steps, bool enabled)
    : first_step_(first_step),
      total_steps_(total_steps),
      enabled_(enabled && log_level() != LogLevel::quiet),
      terminal_(stderr_is_terminal()),
      begin_(Clock::now()),
      last_(begin_) {}

void Progress::update(const Status& s) {
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - last_).count();
  last_ = now;
  // The last few steps count most: a smoothed rate follows the machine without jumping.
  smoothed_tokens_ = 0.9 * smoothed_tokens_ + static_cast<double>(s.tokens);
  smoothed_seconds_ = 0.9 * smoothed_seconds_ + seconds;
  if (!enabled_ || (!terminal_ && !s.logged)) return;
  const double done = static_cast<double>(s.step - first_step_);
  const double left = done > 0 ? this->seconds() / done * static_cast<double>(total_steps_ - s.step) : 0;
  const std::string text =
      fmt::format("step {}/{}  loss {:.4f}  lr {:.2e}  grad_norm {:.3f}  {:.0f} tokens/s  ETA {}  {}", s.step,
                  total_steps_, s.loss, s.learning_rate, s.grad_norm, tokens_per_second(),
                  human_duration(left), human_bytes(resident_bytes()));
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
    drawn_ = true;
    if (s.logged) {
      std::fputc('\n', stderr);
      drawn_ = false;
    }
    std::fflush(stderr);
  } else {
    log_line(text);
  }
}

void Progress::message(const std::string& line) {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
  drawn_ = false;
  log_info("{}", line);
}

void Progress::finish() {
  if (drawn_) std::fputc('\n', stderr);
  drawn_ = false;
}

double Progress::tokens_per_second() const {
  return smoothed_seconds_ > 0 ? smoothed_tokens_ / smoothed_seconds_ : 0;
}
double Progress::seconds() const {
  return std::chrono::duration<double>(Clock::now() - begin_).count();
}

}  // namespace serval
