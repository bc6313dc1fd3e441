// The "BPE" model of a tokenizer.json: a piece of text becomes characters (or bytes), and neighbours are
// merged in the order of the merges' ranks.
//
//   BpeModel model(std::move(vocabulary), options, "tokenizer.json");
//   model.add_merge("h", "e", /*rank=*/0);
//   std::vector<ModelToken> tokens;
//   model.tokenize("hehe", /*byte_level=*/false, tokens);
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer/token_model.h"

namespace serval {

struct BpeOptions {
  std::string unk_token;                  // "": none
  std::string continuing_subword_prefix;  // before every character but the first of a piece
  std::string end_of_word_suffix;         // behind the last
  bool fuse_unk = false;                  // neighbouring unknown characters are one token
  bool byte_fallback = false;             // an unknown character becomes the tokens <0xNN> of its bytes
  bool ignore_merges = false;             // a piece that is in the vocabulary is not merged but taken whole
};

class BpeModel final : public TokenModel {
 public:
  BpeModel(TokenTable vocabulary, BpeOptions options, std::string where);
  void reserve_merges(size_t count);
  void add_merge(std::string_view left, std::string_view right, int64_t rank);
  // The same by ids, all of the vocabulary.
  void add_merge(int32_t left, int32_t right, int32_t merged, int64_t rank);
  // A merge as "left right"; where a token holds a space itself, the reading that the vocabulary knows is
  // taken.
  void add_merge(std::string_view line, int64_t rank);

  // Many at once, ranked in their order from first_rank: quicker than one by one. A merge whose right side
  // has a null data() is a line as above.
  void add_merges(std::span<const std::pair<std::string_view, std::string_view>> merges, int64_t first_rank);

  const TokenTable& vocabulary() const override { return vocabulary_; }
  void write_json(std::string& out, const ModelJsonOptions& options) const override;
  bool reads_bytes() const override { return reads_bytes_; }
  void tokenize(std::string_view piece, bool byte_level, std::vector<ModelToken>& out) const override;
  size_t next_cut(std::string_view piece, size_t at) const override;

 private:
  struct Symbol;
  struct Scratch;
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  struct Merge {
    uint64_t pair;  // left id * 2^32 + right id; kNoPair: empty slot
    int32_t rank, id;
  };
  enum class Whole : uint8_t { kUnknown, kYes, kNo };

  static Scratch& scratch();
  const Merge* find_merge(int32_t left, int32_t right) const;
  void put_merge(uint64_t pair, int32_t rank, int32_t id);
  void check_marks(int32_t merged);
  void split_into_symbols(std::string_view piece, bool byte_level, std::vector<Symbol>& symbols) const;
  void merge_text(std::string_view text, bool byte_level, std::vector<Symbol>& symbols) const;
  bool tokenize_in_windows(std::string_view piece, bool byte_level, std::vector<ModelToken>& out) const;
  bool stay_apart(std::string_view text, bool byte_level, const ModelToken& left, const Symbol& right) const;
  void merge_few(std::vector<Symbol>& symbols) const;
  void merge_many(std::vector<Symbol>& symbols) const;
  int32_t unknown_id() const;

  TokenTable vocabulary_;
  BpeOptions options_;
  std::string where_;
  bool reads_bytes_ = false;
  std::vector<int32_t> id_of_byte_;   // of the byte's character, -1: none
  std::vector<int32_t> id_of_ascii_;  // of the character below 128 itself, -1: none
  std::vector<int32_t> fallback_id_;  // of "<0xNN>", -1: none
  std::vector<Merge> merges_;         // open-addressed, a power of two
  size_t merge_count_ = 0;
  bool cuts_at_marks_ = false;  // no merge goes across the start of a run of U+2581
  // Whether a token's own text tokenizes to that one token; found out at its first use. Racing threads store
  // the same answer.
  std::unique_ptr<std::atomic<Whole>[]> whole_;
};

}  // namespace serval
