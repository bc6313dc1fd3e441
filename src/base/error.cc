#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace serval {

void check_failed(const char* condition, const char* file, int line, const std::string& message) {
  std::fprintf(stderr, "serval: internal error: %s does not hold (%s:%d)%s%s\n", condition, file, line,
               message.empty() ? "" : ": ", message.c_str());
  std::abort();
}

}  // namespace serval
