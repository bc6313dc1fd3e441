// Vocabularies that come without merges: any two neighbours that together are a token are merged, the best
// token first and the leftmost of equals.
//
//   BpeModel model(std::move(vocabulary), options, where);
//   add_merges_by_rank(model, [](int32_t id) { return id; }, where);
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "text/tokenizer/bpe.h"

namespace serval {

// rank_of(id): smaller is merged first; -1: nothing is merged into this token. Tokens are cut between
// characters.
void add_merges_by_rank(BpeModel& model, const std::function<int64_t(int32_t id)>& rank_of,
                        const std::string& where);

}  // namespace serval
