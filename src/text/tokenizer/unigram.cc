#include "text/tokenizer/unigram.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "text/tokenizer/characters.h"

namespace serval {
namespace {

// The best way found so far to write the text up to a place.
template <class Score>
struct PathEnd {
  Score score = 0;
  int32_t id = -1;
  uint32_t size = 0;  // bytes of the last token; 0: the place was not reached
};

// A text of this many bytes gives its memory back afterwards.
constexpr size_t kKeptBytes = size_t{1} << 20;

}  // namespace

UnigramModel::UnigramModel(TokenTable vocabulary, std::vector<double> scores, UnigramOptions options,
                           std::string where)
    : vocabulary_(std::move(vocabulary)),
      scores_(std::move(scores)),
      options_(options),
      where_(std::move(where)) {
  SERVAL_CHECK(static_cast<int64_t>(scores_.size()) == vocabulary_.id_end());
  std::vector<ByteTrie::Key> keys;
  for (int32_t id = 0; id < vocabulary_.id_end(); ++id)
    if (vocabulary_.has_id(id) && !std::isnan(scores_[static_cast<size_t>(id)]))
      keys.emplace_back(vocabulary_.text(id), id);
  trie_ = ByteTrie(std::move(keys));
  fallback_id_.assign(256, -1);
  constexpr char kHex[] = "0123456789ABCDEF";
  for (size_t byte = 0; byte < 256; ++byte)
    fallback_id_[byte] =
        vocabulary_.find(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + std::string(">"));
}

template <class Score>
void UnigramModel::find_best_path(std::string_view text, std::vector<ModelToken>& reversed) const {
  thread_local std::vector<PathEnd<Score>> ends;
  ends.assign(text.size() + 1, {});
  // A sum is compared as it is kept.
  const auto offer = [](PathEnd<Score>& end, double sum, int32_t id, size_t size) {
    const auto score = static_cast<Score>(sum);
    const bool better = end.size == 0 || score > end.score;
    if (better) end = {score, id, static_cast<uint32_t>(size)};
    return better;
  };
  for (size_t at = 0; at < text.size();) {
    size_t next = at;
    next_character(text, next);
    const double here = static_cast<double>(ends[at].score);
    bool has_character = false;
    trie_.for_each_prefix(text.substr(at), [&](size_t size, int32_t id) {
      offer(ends[at + size], here + scores_[static_cast<size_t>(id)], id, size);
      has_character = has_character || size == next - at;
    });
    // Even a character that a longer token could cover needs an unknown token in between.
    if (!has_character && offer(ends[next], here + options_.unk_score, options_.unk_id, next - at) &&
        options_.unk_id < 0)
      fail("{}: the text holds '{}', which no token covers, and the model names no unknown token", where_,
           text.substr(at, next - at));
    at = next;
  }
  for (size_t end = text.size(); end > 0;) {
    const PathEnd<Score>& last = ends[end];
    reversed.push_back({last.id, static_cast<uint32_t>(end) - last.size, static_cast<uint32_t>(end)});
    end -= last.size;
  }
  if (text.size() > kKeptBytes) std::vector<PathEnd<Score>>().swap(ends);
}

void UnigramModel::put_unknown(std::string_view text, ModelToken run, std::vector<ModelToken>& out) const {
  const std::string_view surface = text.substr(run.begin, run.end - run.begin);
  if (options_.looks_up_unknown_runs) {
    if (const int32_t id = vocabulary_.find(surface); id >= 0) {
      out.push_back({id, run.begin, run.end});
      return;
    }
  }
  const auto fallback = [&](char byte) { return fallback_id_[static_cast<unsigned char>(byte)]; };
  if (options_.byte_fallback &&
      std::all_of(surface.begin(), surface.end(), [&](char byte) { return fallback(byte) >= 0; })) {
    for (const char byte : surface) out.push_back({fallback(byte), run.begin, run.end});
    return;
  }
  out.push_back(run);
}

void UnigramModel::tokenize(std::string_view text, bool, std::vector<ModelToken>& out) const {
  thread_local std::vector<ModelToken> reversed;
  reversed.clear();
  if (options_.single_precision) {
    find_best_path<float>(text, reversed);
  } else {
    find_best_path<double>(text, reversed);
  }
  for (size_t i = reversed.size(); i > 0;) {
    ModelToken token = reversed[--i];
    if (token.id != options_.unk_id) {
      out.push_back(token);
      continue;
    }
    while (i > 0 && reversed[i - 1].id == options_.unk_id) token.end = reversed[--i].end;
    put_unknown(text, token, out);
  }
  if (text.size() > kKeptBytes) std::vector<ModelToken>().swap(reversed);
}

}  // namespace serval
