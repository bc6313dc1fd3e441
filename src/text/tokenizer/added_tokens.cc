#include "text/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/tokenizer/characters.h"

namespace serval {

void AddedTokens::Tree::add(std::string_view text, int32_t index) {
  if (text.empty()) return;
  if (token.empty()) token.push_back(-1);
  if (!std::exchange(starts[static_cast<unsigned char>(text[0])], true)) start_bytes += text[0];
  uint32_t node = 0;
  for (const char c : text) {
    const uint64_t key = uint64_t{node} * 256 + static_cast<unsigned char>(c);
    const auto [child, is_new] = children.try_emplace(key, static_cast<uint32_t>(token.size()));
    if (is_new) token.push_back(-1);
    node = child->second;
  }
  token[node] = index;
}

size_t AddedTokens::Tree::next_start(std::string_view text, size_t at) const {
  if (start_bytes.size() == 1) return std::min(text.find(start_bytes[0], at), text.size());
  while (at < text.size() && !starts[static_cast<unsigned char>(text[at])]) ++at;
  return at;
}

int32_t AddedTokens::Tree::longest(std::string_view text, size_t at, size_t& end) const {
  int32_t found = -1;
  uint32_t node = 0;
  while (at < text.size()) {
    const auto child = children.find(uint64_t{node} * 256 + static_cast<unsigned char>(text[at++]));
    if (child == children.end()) break;
    node = child->second;
    if (token[node] >= 0) {
      found = token[node];
      end = at;
    }
  }
  return found;
}

void AddedTokens::add(AddedToken token) {
  if (token.content.empty()) return;
  // What was special once stays so.
  if (token.special) special_contents_.insert(token.content);
  token.special = special_contents_.contains(token.content);
  id_end_ = std::max(id_end_, int64_t{token.id} + 1);
  index_of_id_[token.id] = tokens_.size();
  index_of_content_[token.content] = tokens_.size();
  tokens_.push_back(std::move(token));
}

void AddedTokens::finish(const Normalizer* normalizer) {
  // Where normalizing makes two the same, the last one counts, and a special one before any other.
  std::vector<size_t> order;
  for (const bool special : {false, true})
    for (size_t i = 0; i < tokens_.size(); ++i)
      if (tokens_[i].special == special) order.push_back(i);
  for (const size_t i : order) {
    const AddedToken& token = tokens_[i];
    if (index_of_id_.at(token.id) != i) continue;  // a later token took its id
    if (!token.normalized) {
      raw_.add(token.content, static_cast<int32_t>(i));
      continue;
    }
    std::string text = token.content;
    if (normalizer != nullptr) {
      Pieces pieces(token.content);
      text = normalizer->apply(pieces, pieces.list().front()).text;
    }
    normalized_.add(text, static_cast<int32_t>(i));
    if (text != token.content) normalized_text_[token.id] = text;
  }
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = index_of_id_.find(id);
  return found == index_of_id_.end() ? nullptr : &tokens_[found->second];
}

int32_t AddedTokens::id_of(std::string_view content) const {
  const auto found = index_of_content_.find(std::string(content));
  return found == index_of_content_.end() ? -1 : tokens_[found->second].id;
}

bool AddedTokens::is_skipped(const AddedToken& token) const {
  return token.special || special_contents_.contains(std::string(decoded_text(token)));
}

std::string_view AddedTokens::decoded_text(const AddedToken& token) const {
  const auto found = normalized_text_.find(token.id);
  return found == normalized_text_.end() ? std::string_view(token.content) : std::string_view(found->second);
}

void AddedTokens::split(Pieces& pieces, const Tree& tree, bool special) const {
  if (tree.token.empty())
    return pieces.split_each([&](const Piece& piece, std::vector<Piece>& out) {
      out.push_back(pieces.slice(piece, 0, piece.text.size()));
    });
  pieces.split_each([&](const Piece& piece, std::vector<Piece>& out) {
    const std::string_view text = piece.text;
    size_t done = 0;
    for (size_t at = 0; (at = tree.next_start(text, at)) < text.size();) {
      size_t match_end = 0;
      const int32_t index = tree.longest(text, at, match_end);
      if (index < 0) {
        ++at;
        continue;
      }
      const AddedToken& token = tokens_[static_cast<size_t>(index)];
      size_t begin = at, end = match_end;
      at = match_end;
      if (token.special && !special) continue;
      if (token.single_word) {
        const bool word_before = begin > 0 && is_word(last_character(text.substr(0, begin)));
        size_t behind = end;
        const bool word_behind = end < text.size() && is_word(next_character(text, behind));
        if (word_before || word_behind) continue;
      }
      if (token.lstrip) {
        // Spaces that the token before took along are not taken twice.
        begin = std::max(begin, done);
        while (begin > done && is_space(last_character(text.substr(0, begin)))) do
            --begin;
          while (is_continuation(text[begin]));
      }
      if (token.rstrip)
        for (size_t next = end; next < text.size() && is_space(next_character(text, next));) end = next;
      if (done < begin) out.push_back(pieces.slice(piece, done, begin));
      Piece match = pieces.slice(piece, begin, end);
      match.token = token.id;
      out.push_back(match);
      done = end;
    }
    if (done < text.size()) out.push_back(pieces.slice(piece, done, text.size()));
  });
}

}  // namespace serval
