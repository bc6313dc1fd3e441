// Any bytes as a text file, compressed or not, or one whose kind is told from its bytes.
#include "file_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // The first byte picks the kind, the rest is the file.
  static constexpr const char* kUnits[] = {"line", "paragraph", "document"};
  serval::DatasetSource source;
  source.format = data[0] % 2 == 0 ? "text" : "";
  source.sample_by = kUnits[data[0] / 2 % 3];
  serval::fuzz::read_both_ways(source, {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
