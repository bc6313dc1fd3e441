#include "text/tokenizer/word_models.h"

#include <algorithm>

#include "base/error.h"
#include "text/tokenizer/characters.h"

namespace serval {
namespace {

void put_unknown(const TokenTable& vocabulary, const std::string& unk_token, const std::string& where,
                 std::string_view piece, std::vector<ModelToken>& out) {
  const int32_t id = vocabulary.find(unk_token);
  if (id < 0)
    fail("{}: a word is not in the vocabulary, and neither is model.unk_token '{}'", where, unk_token);
  out.push_back({id, 0, static_cast<uint32_t>(piece.size())});
}

}  // namespace

void WordLevelModel::tokenize(std::string_view piece, bool, std::vector<ModelToken>& out) const {
  if (const int32_t id = vocabulary_.find(piece); id >= 0) {
    out.push_back({id, 0, static_cast<uint32_t>(piece.size())});
  } else {
    put_unknown(vocabulary_, unk_token_, where_, piece, out);
  }
}

void WordPieceModel::tokenize(std::string_view piece, bool, std::vector<ModelToken>& out) const {
  const auto characters =
      std::count_if(piece.begin(), piece.end(), [](char c) { return !is_continuation(c); });
  if (characters > options_.max_input_chars_per_word)
    return put_unknown(vocabulary_, options_.unk_token, where_, piece, out);
  const size_t first = out.size();
  std::string spelled;
  for (size_t begin = 0; begin < piece.size();) {
    const std::string_view prefix = begin > 0 ? options_.continuing_subword_prefix : std::string_view();
    size_t end = std::min(piece.size(), begin + vocabulary_.longest());
    int32_t id = -1;
    for (; end > begin; --end) {
      if (end < piece.size() && is_continuation(piece[end])) continue;
      spelled = prefix;
      spelled += piece.substr(begin, end - begin);
      if ((id = vocabulary_.find(spelled)) >= 0) break;
    }
    if (id < 0) {
      out.resize(first);
      return put_unknown(vocabulary_, options_.unk_token, where_, piece, out);
    }
    out.push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    begin = end;
  }
}

}  // namespace serval
