// The "decoder" section of a tokenizer.json: token strings become text.
//
//   std::unique_ptr<Decoder> decoder = make_decoder(json.at("decoder"), "tokenizer.json: decoder");
//   decoder->apply(strings);   // the text is their concatenation
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/json_part.h"

namespace serval {

class Decoder : public JsonPart {
 public:
  virtual ~Decoder() = default;
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

// The section that makes text of GPT-2's byte characters again.
Json byte_level_decoder();

// nullptr for null. A type that is not supported is a UserError that names it.
std::unique_ptr<Decoder> make_decoder(const Json& value, const std::string& where);

}  // namespace serval
