// The "model" section of a tokenizer.json.
//
//   std::unique_ptr<TokenModel> model = make_token_model(section, "tokenizer.json");
#pragma once
#include <simdjson.h>

#include <memory>
#include <string>

#include "text/tokenizer/token_model.h"

namespace serval {

// A type that is not supported is a UserError that names it; so is every value that is wrong.
std::unique_ptr<TokenModel> make_token_model(const simdjson::dom::object& model, const std::string& where);

}  // namespace serval
