#include "base/process.h"

#include <fstream>
#include <string>

namespace serval {
namespace {

int64_t status_kib(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  return 0;
}

}  // namespace

int64_t resident_bytes() {
  return status_kib("VmRSS:");
}
int64_t peak_resident_bytes() {
  return status_kib("VmHWM:");
}

}  // namespace serval
