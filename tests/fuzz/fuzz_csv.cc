// Any bytes as a CSV file.
#include "file_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // The first byte picks the separator, the rest is the file.
  static constexpr const char* kDelimiters[] = {",", "\t", ";", " "};
  serval::DatasetSource source;
  source.format = "csv";
  source.delimiter = kDelimiters[data[0] % 4];
  serval::fuzz::read_both_ways(source, {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
