// What a tokenizer is made of, whatever file it came from: readers of tokenizer.json, SentencePiece, tiktoken
// and GGUF vocabularies fill these in, and Tokenizer::from_parts makes a tokenizer of them.
//
//   TokenizerParts parts;
//   parts.where = "tokenizer.model";
//   parts.model = std::make_shared<BpeModel>(...);
//   parts.decoder = make_decoder(Json::parse(R"({"type": "ByteLevel"})", "decoder"), parts.where);
//   Tokenizer tokenizer = Tokenizer::from_parts(std::move(parts));
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/token_model.h"

namespace serval {

struct TokenizerParts {
  std::shared_ptr<const Normalizer> normalizer;         // null: the text stays as it is
  std::shared_ptr<const PreTokenizer> pre_tokenizer;    // null: the model gets the text in one piece
  std::shared_ptr<const TokenModel> model;              // never null
  std::shared_ptr<const PostProcessor> post_processor;  // null: as add_bos_token, add_eos_token of config say
  std::shared_ptr<const Decoder> decoder;               // null: the tokens with a blank between
  std::vector<AddedToken> added_tokens;                 // in the order of the file; a later one wins its id
  Json config = Json::object();                         // tokenizer_config.json, or what stands for it
  std::vector<std::string> notes;                       // what the user should know of the file, a line each
  std::string where;                                    // the file, for errors
  // The post-processor was made of add_bos_token and add_eos_token, and is made again where they or the
  // tokens they mean change.
  bool ends_as_configured = false;
  // How many of added_tokens `where` holds, if that is a tokenizer.json; else -1.
  int64_t tokens_of_json_file = -1;
  bool only_read_here = false;  // transformers does not read a file of this kind
  bool changed = false;         // tokens were added to the file's, or named
};

// Of a whole tokenizer.json. Errors name `where` and the section.
TokenizerParts parts_from_tokenizer_json(std::string tokenizer_json, const Json& tokenizer_config,
                                         const std::string& where);

}  // namespace serval
