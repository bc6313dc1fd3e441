// The "added_tokens" section of a tokenizer.json: tokens that are found in the text itself, before the model.
//
//   AddedTokens added = ...add(...); added.finish(normalizer);
//   added.split_raw(pieces, /*special=*/true);          // tokens that match the text as it was written
//   added.split_normalized(pieces, /*special=*/true);   // tokens that match the normalized text
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/pieces.h"

namespace serval {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;  // not beside a letter or digit
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and behind it
  bool normalized = false;   // is looked for in the normalized text
  bool special = false;      // skipped by decode on demand
};

class AddedTokens {
 public:
  void add(AddedToken token);
  // To be called once, after the last add().
  void finish(const Normalizer* normalizer);

  const AddedToken* find(int32_t id) const;
  int32_t id_of(std::string_view content) const;  // or -1
  // What decoders see: the normalized form of a token that is looked for in that form.
  std::string_view decoded_text(const AddedToken& token) const;
  // Special, or what decoders see is the content of a special token.
  bool is_skipped(const AddedToken& token) const;
  int64_t id_end() const { return id_end_; }

  void split_raw(Pieces& pieces, bool special) const { split(pieces, raw_, special); }
  void split_normalized(Pieces& pieces, bool special) const { split(pieces, normalized_, special); }

 private:
  // A tree of bytes; the longest token that starts at a place is taken.
  struct Tree {
    std::unordered_map<uint64_t, uint32_t> children;  // node * 256 + byte
    std::vector<int32_t> token;                       // of each node: index into tokens_, or -1
    bool starts[256] = {};
    std::string start_bytes;                                    // those that `starts` marks
    size_t next_start(std::string_view text, size_t at) const;  // text.size() where there is none
    void add(std::string_view text, int32_t index);
    int32_t longest(std::string_view text, size_t at, size_t& end) const;
  };
  void split(Pieces& pieces, const Tree& tree, bool special) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, size_t> index_of_id_;
  std::unordered_map<std::string, size_t> index_of_content_;
  std::unordered_set<std::string> special_contents_;
  std::unordered_map<int32_t, std::string> normalized_text_;  // by id, where it differs from the content
  Tree raw_, normalized_;
  int64_t id_end_ = 0;
};

}  // namespace serval
