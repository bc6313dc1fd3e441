// Text to token ids and back, as the Hugging Face `tokenizers` library does it for a tokenizer.json.
//
//   Tokenizer tokenizer = Tokenizer::from_directory("model");   // tokenizer.json, tokenizer_config.json
//   Encoding e = tokenizer.encode("Hello", {.add_special_tokens = true});
//   std::string text = tokenizer.decode(e.ids, /*skip_special_tokens=*/true);
//
// A Tokenizer is immutable; encode and decode may be called from several threads at once.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace serval {

struct TokenizerParts;  // text/tokenizer/parts.h

struct EncodeOptions {
  bool add_special_tokens = true;    // what the post-processor adds (BOS, EOS)
  bool parse_special_tokens = true;  // special tokens written in the text become their ids
};

struct Encoding {
  struct Span {
    int64_t begin = 0, end = 0;  // bytes of the input text; an added special token has an empty span
    friend bool operator==(const Span&, const Span&) = default;
  };
  std::vector<int32_t> ids;
  std::vector<Span> spans;  // one for each id
};

struct NewToken {
  std::string content;
  bool special = false;  // skipped by decode on demand
};

// What a token is for ("eos_token", "pad_token", ...) and its text.
struct NamedToken {
  std::string role;
  std::string content;
};

struct TokenizerOptions {
  // How a tiktoken file cuts text: the name of an encoding (cl100k_base ...) or a regular expression. "": as
  // the file's name or its size says.
  std::string tiktoken_pattern;
};

class Tokenizer {
 public:
  // Errors name the file and the part of it that is wrong or not supported.
  // The directory's tokenizer.json, else tokenizer.model, tekken.json, vocab.json with merges.txt, a tiktoken
  // file, vocab.txt or a GGUF file; notes() says which of these it was.
  static Tokenizer from_directory(const std::string& directory, const TokenizerOptions& options = {});
  // A directory, or one of the files that hold a tokenizer; the small files are looked for beside it.
  static Tokenizer from_path(const std::string& path, const TokenizerOptions& options = {});
  static Tokenizer from_json(std::string_view tokenizer_json, const Json& tokenizer_config,
                             const std::string& where);
  static Tokenizer from_parts(TokenizerParts parts);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  Encoding encode(std::string_view text, const EncodeOptions& options = {}) const;
  // The same for many texts, on all threads of base/parallel.h; the order is kept.
  std::vector<Encoding> encode_batch(std::span<const std::string_view> texts,
                                     const EncodeOptions& options = {}) const;
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;

  // A tokenizer that also takes these tokens out of the text, and their ids: a known token keeps its id, new
  // ones follow vocab_size(). The rows of the embedding are the model's side.
  std::pair<Tokenizer, std::vector<int32_t>> with_added_tokens(std::span<const NewToken> tokens) const;
  // The same tokenizer with other tokens in these roles. Errors name a text that is no token.
  Tokenizer with_named_tokens(std::span<const NamedToken> tokens) const;

  int64_t vocab_size() const;  // largest id + 1, added tokens included
  std::optional<int32_t> token_to_id(std::string_view token) const;
  std::string id_to_token(int32_t id) const;  // "" where there is none
  bool is_special(int32_t id) const;
  // From tokenizer_config.json; absent where it names none.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  // The raw tokenizer_config.json (an empty object where there is none).
  const Json& config() const;
  // What the user should know of the files: sections that are ignored and the like, a line each.
  const std::vector<std::string>& notes() const;
  const TokenizerParts& parts() const;  // text/tokenizer/parts.h; for this folder

 private:
  friend class DecodeStream;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

// Decodes one id at a time and never emits half a UTF-8 character: text that may still change is held back.
class DecodeStream {
 public:
  explicit DecodeStream(const Tokenizer& tokenizer, bool skip_special_tokens = true);
  std::string push(int32_t id);  // the text that became certain
  std::string finish();          // what was held back; incomplete characters as U+FFFD

 private:
  std::string take(const std::string& text);
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  std::vector<int32_t> pending_;
  size_t prefix_ = 0;  // ids of pending_ whose text was emitted already, kept as context
};

}  // namespace serval
