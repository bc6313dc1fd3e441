// The "Unigram" model of a tokenizer.json: {"type": "Unigram", "vocab": [["<unk>", 0.0], ...], "unk_id": 0}.
//
//   std::unique_ptr<TokenModel> model = make_unigram_model(section, "tokenizer.json");
#pragma once
#include <simdjson.h>

#include <memory>
#include <string>

#include "text/tokenizer/token_model.h"

namespace serval {

std::unique_ptr<TokenModel> make_unigram_model(const simdjson::dom::object& model, const std::string& where);

}  // namespace serval
