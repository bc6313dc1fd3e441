// Any bytes as a safetensors file: refused by a UserError, or every tensor lies in the file and can be read.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "formats/safetensors.h"

namespace {

const std::string& scratch_path() {
  static const std::string path = (serval::directory_exists("/dev/shm") ? "/dev/shm" : "/tmp") +
                                  std::string("/serval-fuzz-safetensors-") + std::to_string(getpid());
  return path;
}

void overwrite(const uint8_t* data, size_t size) {
  std::FILE* file = std::fopen(scratch_path().c_str(), "wb");
  if (file == nullptr || std::fwrite(data, 1, size, file) != size) std::abort();
  std::fclose(file);
}

void read_everything(const serval::SafetensorsFile& file, size_t size) {
  uint64_t at = 0;
  for (const auto& entry : file.entries()) {
    if (entry.end < entry.begin || entry.end > size || (at != 0 && entry.begin != at)) std::abort();
    at = entry.end;
    if (&file.at(entry.name) != &entry) std::abort();
    const serval::Shape shape = serval::shape_of(entry, file.path());
    const serval::DType dtype = entry.dtype.value_or(serval::DType::f32);
    const serval::DType target = serval::is_floating(dtype) ? serval::DType::f64 : dtype;
    std::vector<std::byte> values(static_cast<size_t>(shape.elements() * serval::size_of(target)));
    file.read(entry, values.data(), target);
  }
  if (!file.entries().empty() && at != size) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  overwrite(data, size);
  try {
    read_everything(serval::SafetensorsFile(scratch_path()), size);
  } catch (const serval::UserError& error) {
    const std::string_view message = error.what();
    if (message.empty() || message.find('\n') != std::string_view::npos) std::abort();
  }
  unlink(scratch_path().c_str());
  return 0;
}
