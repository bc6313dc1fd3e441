#include "formats/gguf.h"

#include <cstdio>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace serval {

bool is_gguf(const std::string& path) {
  if (!file_exists(path)) return false;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  char magic[4] = {};
  const size_t got = std::fread(magic, 1, sizeof magic, file);
  std::fclose(file);
  return std::string_view(magic, got) == "GGUF";
}

void refuse_gguf(const std::string& path) {
  fail("{}: a GGUF cannot be read yet; use the Hugging Face checkpoint (safetensors) of this model", path);
}

}  // namespace serval
