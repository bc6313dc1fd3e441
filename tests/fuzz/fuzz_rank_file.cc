// Any bytes as a tiktoken rank file or as a tekken.json: it handles a fixed set of texts, or ends in one
// UserError. The first byte picks the kind.
#include <cstddef>
#include <cstdint>

#include "text/tokenizer/rank_file.h"
#include "tokenizer_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace serval;
  if (size == 0) return 0;
  const std::string_view file(reinterpret_cast<const char*>(data) + 1, size - 1);
  constexpr const char* kPatterns[] = {"cl100k_base", "kimi", "qwen", "gpt2"};
  use_tokenizer([&] {
    if (data[0] % 2 == 0) return parts_from_tekken(file, {}, "tekken.json");
    return parts_from_tiktoken(file, {.pattern = kPatterns[data[0] / 2 % 4]}, {}, "a.tiktoken");
  });
  return 0;
}
