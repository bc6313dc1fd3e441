// Errors of two kinds. A UserError says that a file, a key, a value or a shape that the user gave is wrong;
// its message is one line: what was read and where, what was expected, what to do. A broken invariant of our
// own aborts through SERVAL_CHECK. User errors travel as exceptions up to the verb in src/cli, which prints
// them and exits with 1 (failed) or 2 (wrong usage).
//
//   if (rows != expected) fail("{}: tensor '{}' has {} rows, expected {}", path, name, rows, expected);
#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace serval {

class UserError : public std::runtime_error {
 public:
  // Control characters that came along from a file are escaped: the message stays one line.
  explicit UserError(const std::string& message);
};

// Wrong usage of the command line or of a configuration key: exit code 2.
class UsageError : public UserError {
 public:
  using UserError::UserError;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw UserError(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void check_failed(const char* condition, const char* file, int line, const std::string& message);

}  // namespace serval

// An invariant of the program itself. Always on: the cost is a predictable branch.
#define SERVAL_CHECK(condition, ...)                                                             \
  do {                                                                                           \
    if (!(condition)) [[unlikely]]                                                               \
      ::serval::check_failed(#condition, __FILE__, __LINE__, ::serval::check_text(__VA_ARGS__)); \
  } while (false)

namespace serval {
inline std::string check_text() {
  return {};
}
template <class... Args>
std::string check_text(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace serval
