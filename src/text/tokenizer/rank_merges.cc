#include "text/tokenizer/rank_merges.h"

#include "base/error.h"
#include "text/tokenizer/characters.h"

namespace serval {
namespace {

// The longest token that is looked at for merges: each of its cuts costs its length.
constexpr size_t kMaxTokenBytes = 4096;

}  // namespace

void add_merges_by_rank(BpeModel& model, const std::function<int64_t(int32_t id)>& rank_of,
                        const std::string& where) {
  const TokenTable& vocabulary = model.vocabulary();
  struct Merge {
    int64_t rank;
    int32_t id;
    uint32_t cut;
  };
  std::vector<Merge> merges;
  for (int32_t id = 0; id < vocabulary.id_end(); ++id) {
    const std::string_view text = vocabulary.text(id);
    const int64_t rank = text.empty() ? -1 : rank_of(id);
    // Of a token that is there twice, the one that is found counts.
    if (rank < 0 || vocabulary.find(text) != id) continue;
    if (text.size() > kMaxTokenBytes)
      fail("{}: the token {} has {} bytes, more than any real one", where, id, text.size());
    size_t cut = 0;
    for (next_character(text, cut); cut < text.size(); next_character(text, cut))
      if (vocabulary.find(text.substr(0, cut)) >= 0 && vocabulary.find(text.substr(cut)) >= 0)
        merges.push_back({rank, id, static_cast<uint32_t>(cut)});
  }
  model.reserve_merges(merges.size());
  for (const Merge& merge : merges) {
    const std::string_view text = vocabulary.text(merge.id);
    model.add_merge(text.substr(0, merge.cut), text.substr(merge.cut), merge.rank);
  }
}

}  // namespace serval
