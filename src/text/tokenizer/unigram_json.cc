#include "text/tokenizer/unigram_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <limits>

#include "text/tokenizer/json_section.h"
#include "text/tokenizer/unigram.h"

namespace serval {
namespace {

// A score as the package reads it: its digits as one number, which need not fit 53 bits, times or over a
// power of ten. That can be the neighbour of the nearest double, and decides between equally good ways to
// write a text.
double score_as_read(double score) {
  char text[64];
  const auto printed = std::to_chars(text, text + sizeof text, score, std::chars_format::scientific);
  uint64_t digits = 0;
  int exponent = 0;
  const char* at = text;
  const bool negative = *at == '-';
  if (negative) ++at;
  for (bool behind_point = false; at < printed.ptr && *at != 'e'; ++at) {
    if (*at == '.') {
      behind_point = true;
      continue;
    }
    if (*at < '0' || *at > '9') return score;  // infinity
    digits = digits * 10 + static_cast<uint64_t>(*at - '0');
    exponent -= behind_point ? 1 : 0;
  }
  int shown = 0;
  if (at < printed.ptr) {
    at += at[1] == '+' ? 2 : 1;
    std::from_chars(at, printed.ptr, shown);
  }
  exponent += shown;
  constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10,
                                1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21};
  const auto size = static_cast<size_t>(std::abs(exponent));
  if (size >= std::size(kPowers)) return score;
  const auto whole = static_cast<double>(digits);
  const double result = exponent >= 0 ? whole * kPowers[size] : whole / kPowers[size];
  return negative ? -result : result;
}

}  // namespace

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
    score = score_as_read(score);
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
