// The "pre_tokenizer" section of a tokenizer.json: how the text is cut into the pieces that the model sees.
//
//   std::unique_ptr<PreTokenizer> split = make_pre_tokenizer(json.at("pre_tokenizer"), "tokenizer.json:
//   pre_tokenizer"); split->apply(pieces);
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "text/tokenizer/pieces.h"

namespace serval {

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Pieces& pieces) const = 0;
};

// nullptr for null. A type that is not supported is a UserError that names it.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& value, const std::string& where);

}  // namespace serval
