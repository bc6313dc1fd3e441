// Any bytes as JSONL or a JSON list.
#include "file_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  serval::DatasetSource source;
  source.format = "json";
  serval::fuzz::read_both_ways(source, {reinterpret_cast<const char*>(data), size});
  return 0;
}
