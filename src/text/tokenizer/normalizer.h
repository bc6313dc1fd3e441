// The "normalizer" section of a tokenizer.json: what is done to the text before it is split.
//
//   std::unique_ptr<Normalizer> normalizer = make_normalizer(json.at("normalizer"), "tokenizer.json:
//   normalizer"); piece = normalizer->apply(pieces, piece);
#pragma once
#include <memory>
#include <string>

#include "base/json.h"
#include "text/tokenizer/json_part.h"
#include "text/tokenizer/pieces.h"

namespace serval {

class Normalizer : public JsonPart {
 public:
  virtual ~Normalizer() = default;
  virtual Piece apply(Pieces& pieces, const Piece& piece) const = 0;
};

// nullptr for null. A type that is not supported is a UserError that names it.
std::unique_ptr<Normalizer> make_normalizer(const Json& value, const std::string& where);

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };
// The characters of the form, each with its change from `text`; empty where `text` has the form already.
std::vector<ChangedCharacter> unicode_form(std::string_view text, UnicodeForm form);

}  // namespace serval
