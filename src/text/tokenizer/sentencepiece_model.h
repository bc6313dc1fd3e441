// A SentencePiece file (`tokenizer.model`, `spiece.model`) as it is written: pieces, scores, and how text is
// normalized. What a tokenizer makes of it is in sentencepiece.h.
//
//   SentencePieceModel model = SentencePieceModel::parse(bytes, "tokenizer.model");
//   model.pieces[0].text;   // "<unk>"
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace serval {

enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct SentencePieceModel {
  enum class Type : uint8_t { kUnigram = 1, kBpe = 2, kWord = 3, kCharacter = 4 };
  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;  // by id
  Type type = Type::kUnigram;
  bool byte_fallback = false;
  bool treat_whitespace_as_suffix = false;
  // -1: none.
  int64_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  // The normalizer.
  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;

  // A UserError that names `where` unless the bytes are such a file with unique, valid UTF-8 pieces and
  // finite scores, and the ids above are of pieces (the defaults of ids that the file does not use become
  // -1).
  static SentencePieceModel parse(std::string_view bytes, const std::string& where);
  // Whether the bytes can be such a file at all: the first field is a piece.
  static bool looks_like(std::string_view bytes);
};

}  // namespace serval
