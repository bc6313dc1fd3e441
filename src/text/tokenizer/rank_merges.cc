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
    int32_t left, right, merged;
  };
  std::vector<Merge> merges;
  // Looking texts up waits for memory, so all cuts of some tokens are looked up together.
  constexpr size_t kAtATime = 256;
  std::vector<std::string_view> texts;
  std::vector<Merge> cuts;
  std::vector<int32_t> ids;
  const auto take_cuts = [&] {
    ids.resize(texts.size());
    vocabulary.find_many(texts, ids);
    for (size_t i = 0; i < cuts.size(); ++i)
      if (ids[2 * i] >= 0 && ids[2 * i + 1] >= 0)
        merges.push_back({cuts[i].rank, ids[2 * i], ids[2 * i + 1], cuts[i].merged});
    texts.clear();
    cuts.clear();
  };
  for (int32_t id = 0; id < vocabulary.id_end(); ++id) {
    const std::string_view text = vocabulary.text(id);
    const int64_t rank = text.empty() ? -1 : rank_of(id);
    // Of a token that is there twice, the one that is found counts.
    if (rank < 0 || vocabulary.find(text) != id) continue;
    if (text.size() > kMaxTokenBytes)
      fail("{}: the token {} has {} bytes, more than any real one", where, id, text.size());
    size_t cut = 0;
    for (next_character(text, cut); cut < text.size(); next_character(text, cut)) {
      texts.push_back(text.substr(0, cut));
      texts.push_back(text.substr(cut));
      cuts.push_back({rank, -1, -1, id});
    }
    if (cuts.size() >= kAtATime) take_cuts();
  }
  take_cuts();
  model.reserve_merges(merges.size());
  for (const Merge& merge : merges) model.add_merge(merge.left, merge.right, merge.merged, merge.rank);
}

}  // namespace serval
