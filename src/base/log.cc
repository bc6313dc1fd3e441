#include "base/log.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace serval {
namespace {
LogLevel current_level = LogLevel::info;
}

void set_log_level(LogLevel level) {
  current_level = level;
}
LogLevel log_level() {
  return current_level;
}

bool stderr_is_terminal() {
  static const bool terminal = ::isatty(2) == 1;
  return terminal;
}

bool use_colour() {
  static const bool colour = stderr_is_terminal() && std::getenv("NO_COLOR") == nullptr;
  return colour;
}

void log_line(std::string_view line) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
}

void log_warning(std::string_view line) {
  std::fprintf(stderr, use_colour() ? "\033[33mwarning:\033[0m %.*s\n" : "warning: %.*s\n",
               static_cast<int>(line.size()), line.data());
}

}  // namespace serval
