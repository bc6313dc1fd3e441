// The progress line of a run: step, loss, learning rate, gradient norm, tokens a second, time left, memory.
// On a terminal one line that is rewritten; else a plain line at each logged step.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace serval {

class Progress {
 public:
  Progress(int64_t first_step, int64_t total_steps, bool enabled);
  struct Status {
    int64_t step = 0;
    double loss = 0, learning_rate = 0, grad_norm = 0;
    int64_t tokens = 0;   // of this step
    bool logged = false;  // also a line of its own where the output is no terminal
  };
  void update(const Status& status);
  void message(const std::string& line);  // a line above the progress line
  void finish();
  double tokens_per_second() const;  // over the last steps
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;
  int64_t first_step_, total_steps_;
  bool enabled_, terminal_, drawn_ = false;
  Clock::time_point begin_, last_;
  double smoothed_tokens_ = 0, smoothed_seconds_ = 0;
};

}  // namespace serval
