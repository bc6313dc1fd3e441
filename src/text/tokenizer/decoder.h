// The "decoder" section of a tokenizer.json: token strings become text.
//
//   std::unique_ptr<Decoder> decoder = make_decoder(json.at("decoder"), "tokenizer.json: decoder");
//   decoder->apply(strings);   // the text is their concatenation
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"

namespace serval {

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

// nullptr for null. A type that is not supported is a UserError that names it.
std::unique_ptr<Decoder> make_decoder(const Json& value, const std::string& where);

}  // namespace serval
