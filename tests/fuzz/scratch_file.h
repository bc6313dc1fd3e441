// The one file that a fuzz target writes its input to, for code that reads files: of this process, in memory
// where the system has such a place.
//
//   overwrite_scratch_file({bytes, size});
//   open_dataset(scratch_path());
#pragma once
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/file.h"

namespace serval::fuzz {

inline const std::string& scratch_path() {
  static const std::string path = (directory_exists("/dev/shm") ? "/dev/shm" : "/tmp") +
                                  std::string("/serval-fuzz-") + std::to_string(getpid());
  return path;
}

inline void overwrite_scratch_file(std::string_view bytes) {
  std::FILE* file = std::fopen(scratch_path().c_str(), "wb");
  if (file == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) std::abort();
  std::fclose(file);
}

}  // namespace serval::fuzz
