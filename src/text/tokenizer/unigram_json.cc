#include "text/tokenizer/unigram_json.h"

#include <algorithm>
#include <limits>

#include "text/tokenizer/json_section.h"
#include "text/tokenizer/unigram.h"

namespace serval {

std::unique_ptr<TokenModel> make_unigram_model(const simdjson::dom::object& model, const std::string& where) {
  simdjson::dom::array vocab;
  if (model.at_key("vocab").get(vocab) != simdjson::SUCCESS)
    fail("{}: model.vocab is missing or no list", where);
  TokenTable table;
  table.reserve(vocab.size());
  std::vector<double> scores;
  scores.reserve(vocab.size());
  double worst = std::numeric_limits<double>::infinity();
  for (const simdjson::dom::element entry : vocab) {
    simdjson::dom::array pair;
    std::string_view text;
    double score = 0;
    if (entry.get(pair) != simdjson::SUCCESS || pair.size() != 2 ||
        pair.at(0).get(text) != simdjson::SUCCESS || pair.at(1).get(score) != simdjson::SUCCESS)
      fail("{}: model.vocab[{}]: expected [\"token\", score]", where, scores.size());
    // Of equal tokens the last one is found, and the others' ids keep their text.
    table.add(text, checked_id(static_cast<int64_t>(scores.size()), text, where + ": model.vocab"));
    scores.push_back(score);
    worst = std::min(worst, score);
  }
  if (scores.empty()) fail("{}: model.vocab of a Unigram model is empty", where);
  Json settings = Json::object();
  settings.set("byte_fallback", section(model, "byte_fallback", where + ": model"));
  UnigramOptions options{.unk_score = worst - kUnknownPenalty,
                         .byte_fallback = flag(settings, "byte_fallback")};
  const Json unk = section(model, "unk_id", where + ": model");
  if (!unk.is_null()) {
    if (unk.as_int() < 0 || unk.as_int() >= static_cast<int64_t>(scores.size()))
      fail("{}: model.unk_id is {}, but the vocabulary has {} tokens", where, unk.dump(), scores.size());
    options.unk_id = static_cast<int32_t>(unk.as_int());
  }
  return std::make_unique<UnigramModel>(std::move(table), std::move(scores), options, where);
}

}  // namespace serval
