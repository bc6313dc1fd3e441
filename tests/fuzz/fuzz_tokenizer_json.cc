// Any bytes as a tokenizer.json: it loads and handles a fixed set of texts, or ends in one UserError.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tokenizer_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace serval;
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  use_tokenizer(
      [&] { return parts_from_tokenizer_json(std::string(file), Json::object(), "tokenizer.json"); });
  return 0;
}
