// The tokenizer inside a GGUF file ("tokenizer.ggml.*"), as llama.cpp reads it. The models gpt2 (BPE), gemma4
// (BPE over characters), llama (SentencePiece BPE), t5 (Unigram) and bert (WordPiece) are known.
//
//   GgufMetadata gguf = GgufMetadata::open("model.gguf");
//   TokenizerParts parts = parts_from_gguf(gguf);
//   parts.config.find("chat_template");   // where the file has one
#pragma once
#include "formats/gguf_metadata.h"
#include "text/tokenizer/parts.h"

namespace serval {

TokenizerParts parts_from_gguf(const GgufMetadata& gguf);

}  // namespace serval
