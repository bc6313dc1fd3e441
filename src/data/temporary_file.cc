#include "data/temporary_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace serval {

std::string temporary_directory() {
  const char* set = std::getenv("TMPDIR");
  return set != nullptr && *set != '\0' ? set : "/tmp";
}

int open_nameless(const std::string& wanted) {
  const std::string directory = wanted.empty() ? temporary_directory() : wanted;
  make_directories(directory);
  const int nameless = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (nameless >= 0) return nameless;
  std::string path = join_path(directory, "serval-XXXXXX");
  const int descriptor = ::mkostemp(path.data(), O_CLOEXEC);
  if (descriptor < 0) fail("{}: cannot create a temporary file: {}", directory, std::strerror(errno));
  ::unlink(path.c_str());
  return descriptor;
}

void write_all(int descriptor, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(descriptor, bytes.data(), std::min<size_t>(bytes.size(), size_t{1} << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0)
      fail("{}: cannot write: {}; dataset_cache_dir names another place for unpacked and tokenised data",
           path, std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(done));
  }
}

}  // namespace serval
