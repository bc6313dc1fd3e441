#include "base/signals.h"

#include <atomic>
#include <csignal>
#include <cstdlib>

namespace serval {
namespace {

std::atomic<int> requested{0};

void on_signal(int signal) {
  // The second request does not wait for the step to end.
  if (requested.exchange(signal) != 0) std::_Exit(128 + signal);
}

}  // namespace

void catch_stop_signals() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

bool stop_requested() {
  return requested.load() != 0;
}
int stop_signal() {
  return requested.load();
}

}  // namespace serval
