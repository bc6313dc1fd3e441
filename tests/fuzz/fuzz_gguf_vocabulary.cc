// Any bytes as a GGUF file with a tokenizer: it handles a fixed set of texts, or ends in one UserError.
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/gguf_metadata.h"
#include "text/tokenizer/gguf_vocabulary.h"
#include "tokenizer_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace serval;
  use_tokenizer([&] {
    return parts_from_gguf(GgufMetadata::parse(std::as_bytes(std::span(data, size)), "model.gguf"));
  });
  return 0;
}
