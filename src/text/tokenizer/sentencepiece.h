// A tokenizer of a SentencePiece model. Which rules hold is decided by the class that tokenizer_config.json
// names, as in transformers; a model without such a class is handled as SentencePiece itself does.
//
//   SentencePieceModel model = SentencePieceModel::parse(bytes, path);
//   TokenizerParts parts = parts_from_sentencepiece(std::move(model), settings, path);
#pragma once
#include <string>

#include "text/tokenizer/configured_tokens.h"
#include "text/tokenizer/parts.h"
#include "text/tokenizer/sentencepiece_model.h"

namespace serval {

// Classes with rules of their own: LlamaTokenizer, CodeLlamaTokenizer, GemmaTokenizer, T5Tokenizer. A note
// says where another class was treated as SentencePiece.
TokenizerParts parts_from_sentencepiece(const SentencePieceModel& model, const TokenizerSettings& settings,
                                        const std::string& where);

// SentencePiece's Unigram model over pieces with their types; also what the Unigram vocabulary of a GGUF
// holds.
enum class UnigramReference { kTokenizers, kSentencePiece, kLlamaCpp };
std::unique_ptr<TokenModel> make_unigram_model(const SentencePieceModel& model, UnigramReference reference,
                                               const std::string& where);
// SentencePiece's BPE model: the best score is merged first.
std::unique_ptr<TokenModel> make_bpe_model(const SentencePieceModel& model, const std::string& where);
// Its normalization rules.
std::unique_ptr<Normalizer> make_normalizer(const SentencePieceModel& model, const std::string& where);

}  // namespace serval
