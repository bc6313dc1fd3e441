#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace serval {
namespace {

std::string one_line(const std::string& message) {
  std::string line;
  for (const char c : message) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '\n')
      line += "\\n";
    else if (code < 0x20 || code == 0x7f)
      line += fmt::format("\\x{:02x}", code);
    else
      line += c;
  }
  return line;
}

}  // namespace

UserError::UserError(const std::string& message) : std::runtime_error(one_line(message)) {}

void check_failed(const char* condition, const char* file, int line, const std::string& message) {
  std::fprintf(stderr, "serval: internal error: %s does not hold (%s:%d)%s%s\n", condition, file, line,
               message.empty() ? "" : ": ", message.c_str());
  std::abort();
}

}  // namespace serval
