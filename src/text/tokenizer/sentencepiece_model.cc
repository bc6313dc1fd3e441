#include "text/tokenizer/sentencepiece_model.h"

#include <cmath>
#include <unordered_set>

#include "base/error.h"
#include "base/text.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/protobuf.h"
#include "text/tokenizer/token_table.h"

namespace serval {
namespace {

SentencePieceModel::Piece read_piece(std::string_view bytes, const std::string& where) {
  SentencePieceModel::Piece piece;
  ProtobufReader reader(bytes, where);
  while (reader.next()) {
    if (reader.field() == 1) piece.text = reader.bytes();
    if (reader.field() == 2) piece.score = reader.number();
    if (reader.field() == 3) {
      const int64_t type = reader.integer();
      if (type < 1 || type > 6) fail("{}: a piece of the unknown type {}", where, type);
      piece.type = static_cast<PieceType>(type);
    }
  }
  if (valid_utf8_prefix(piece.text).ill_formed != 0)
    fail("{}: the piece {} is not UTF-8", where, in_quotes(piece.text));
  if (!std::isfinite(piece.score))
    fail("{}: the score of {} is {}", where, in_quotes(piece.text), piece.score);
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& where, SentencePieceModel& model) {
  ProtobufReader reader(bytes, where);
  while (reader.next()) {
    switch (reader.field()) {
      case 3: {
        const int64_t type = reader.integer();
        if (type < 1 || type > 4) fail("{}: the unknown model type {}", where, type);
        model.type = static_cast<SentencePieceModel::Type>(type);
        break;
      }
      case 24:
        model.treat_whitespace_as_suffix = reader.boolean();
        break;
      case 35:
        model.byte_fallback = reader.boolean();
        break;
      // Negative ids are written as 64-bit numbers or, by old writers, as 32-bit ones.
      case 40:
        model.unk_id = static_cast<int32_t>(reader.integer());
        break;
      case 41:
        model.bos_id = static_cast<int32_t>(reader.integer());
        break;
      case 42:
        model.eos_id = static_cast<int32_t>(reader.integer());
        break;
      case 43:
        model.pad_id = static_cast<int32_t>(reader.integer());
        break;
      default:
        break;
    }
  }
}

void read_normalizer(std::string_view bytes, const std::string& where, SentencePieceModel& model) {
  ProtobufReader reader(bytes, where);
  while (reader.next()) {
    if (reader.field() == 2) model.charsmap = reader.bytes();
    if (reader.field() == 3) model.add_dummy_prefix = reader.boolean();
    if (reader.field() == 4) model.remove_extra_whitespaces = reader.boolean();
    if (reader.field() == 5) model.escape_whitespaces = reader.boolean();
  }
}

void check(SentencePieceModel& model, const std::string& where) {
  if (model.pieces.empty()) fail("{}: no pieces; this is no SentencePiece model", where);
  if (static_cast<int64_t>(model.pieces.size()) > TokenTable::kMaxId)
    fail("{}: {} pieces are too many", where, model.pieces.size());
  std::unordered_set<std::string_view> seen;
  seen.reserve(model.pieces.size());
  int64_t unknown = -1;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    if (piece.text.empty()) fail("{}: the piece {} is empty", where, id);
    if (!seen.insert(piece.text).second)
      fail("{}: the piece {} is there twice", where, in_quotes(piece.text));
    if (piece.type != PieceType::kUnknown) continue;
    if (unknown >= 0) fail("{}: the pieces {} and {} are both the unknown one", where, unknown, id);
    unknown = static_cast<int64_t>(id);
  }
  if (unknown < 0) fail("{}: no piece is the unknown one", where);
  model.unk_id = unknown;
  const auto keep_control = [&](int64_t& id) {
    const bool is_control = id >= 0 && id < static_cast<int64_t>(model.pieces.size()) &&
                            model.pieces[static_cast<size_t>(id)].type == PieceType::kControl;
    if (!is_control) id = -1;
  };
  keep_control(model.bos_id);
  keep_control(model.eos_id);
  keep_control(model.pad_id);
}

}  // namespace

bool SentencePieceModel::looks_like(std::string_view bytes) {
  return !bytes.empty() && bytes[0] == '\x0A';
}

SentencePieceModel SentencePieceModel::parse(std::string_view bytes, const std::string& where) {
  SentencePieceModel model;
  ProtobufReader reader(bytes, where);
  while (reader.next()) {
    if (reader.field() == 1) model.pieces.push_back(read_piece(reader.bytes(), where));
    if (reader.field() == 2) read_trainer(reader.bytes(), where, model);
    if (reader.field() == 3) read_normalizer(reader.bytes(), where, model);
  }
  check(model, where);
  return model;
}

}  // namespace serval
