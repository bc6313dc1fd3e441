// The "pre_tokenizer" section of a tokenizer.json: how the text is cut into the pieces that the model sees.
//
//   std::unique_ptr<PreTokenizer> split = make_pre_tokenizer(json.at("pre_tokenizer"), "tokenizer.json:
//   pre_tokenizer"); split->apply(pieces);
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "text/tokenizer/json_part.h"
#include "text/tokenizer/pieces.h"
#include "text/tokenizer/word_patterns.h"

namespace serval {

// How a pre-tokenizer that changes nothing finds its words.
struct WordScan {
  WordEnd word_end = nullptr;  // null: apply() alone knows
  bool byte_level = false;     // the words are byte_level pieces
};

class PreTokenizer : public JsonPart {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Pieces& pieces) const = 0;
  // Where it gives a scan, that cuts a piece of plain text as apply() does.
  virtual WordScan scan() const { return {}; }
  virtual bool only_marks_bytes() const { return false; }  // makes pieces byte_level and nothing else
  // Makes pieces that are tokens already; a model that reads json()'s cuts must take them whole.
  virtual bool finds_tokens() const { return false; }
};

// nullptr for null. A type that is not supported is a UserError that names it.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& value, const std::string& where);

}  // namespace serval
