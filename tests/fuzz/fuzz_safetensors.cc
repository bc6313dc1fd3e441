// Any bytes as a safetensors file: refused by a UserError, or every tensor lies in the file and can be read.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "formats/safetensors.h"
#include "scratch_file.h"

namespace {

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
  serval::fuzz::overwrite_scratch_file({reinterpret_cast<const char*>(data), size});
  try {
    read_everything(serval::SafetensorsFile(serval::fuzz::scratch_path()), size);
  } catch (const serval::UserError& error) {
    const std::string_view message = error.what();
    if (message.empty() || message.find('\n') != std::string_view::npos) std::abort();
  }
  unlink(serval::fuzz::scratch_path().c_str());
  return 0;
}
