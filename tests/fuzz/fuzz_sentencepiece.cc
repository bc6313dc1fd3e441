// Any bytes as a SentencePiece model, read as SentencePiece does and as the classes of transformers do: it
// handles a fixed set of texts, or ends in one UserError. The first byte picks the class.
#include <cstddef>
#include <cstdint>

#include "text/tokenizer/sentencepiece.h"
#include "tokenizer_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace serval;
  if (size == 0) return 0;
  constexpr const char* kClasses[] = {"", "LlamaTokenizer", "GemmaTokenizer", "T5Tokenizer",
                                      "CodeLlamaTokenizer"};
  TokenizerSettings settings;
  settings.tokenizer_class = kClasses[data[0] % 5];
  settings.config.set("extra_ids", 2);
  const std::string_view file(reinterpret_cast<const char*>(data) + 1, size - 1);
  use_tokenizer([&] {
    return parts_from_sentencepiece(SentencePieceModel::parse(file, "tokenizer.model"), settings,
                                    "tokenizer.model");
  });
  return 0;
}
