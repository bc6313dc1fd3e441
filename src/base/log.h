// Messages for the user, on stderr (stdout is for results alone). Colours only on a terminal and without
// NO_COLOR.
#pragma once
#include <fmt/core.h>

#include <string>
#include <string_view>

namespace serval {

enum class LogLevel { quiet, info, verbose };
void set_log_level(LogLevel level);
LogLevel log_level();

void log_line(std::string_view line);     // as it is
void log_warning(std::string_view line);  // "warning: ..." in yellow
bool stderr_is_terminal();
bool use_colour();  // stderr is a terminal and NO_COLOR is not set

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() != LogLevel::quiet) log_line(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  log_warning(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace serval
