// The "model" section of a tokenizer.json, written. Every version of the `tokenizers` library reads it:
// merges are lines "a b" unless a token holds a blank.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/unigram.h"
#include "text/tokenizer/word_models.h"

namespace serval {
namespace {

class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out) : out_(out) { out_ += '{'; }
  std::string& key(std::string_view name) {
    if (!std::exchange(first_, false)) out_ += ',';
    out_ += json_quote(name);
    return out_ += ':';
  }
  void text(std::string_view name, std::string_view value) { key(name) += json_quote(value); }
  void flag(std::string_view name, bool value) { key(name) += value ? "true" : "false"; }
  void integer(std::string_view name, int64_t value) { key(name) += std::to_string(value); }
  void null(std::string_view name) { key(name) += "null"; }
  void text_or_null(std::string_view name, std::string_view value) {
    value.empty() ? null(name) : text(name, value);
  }
  void end() { out_ += '}'; }

 private:
  std::string& out_;
  bool first_ = true;
};

// {"token": id}; of a token that is there twice, the id that is found.
void write_vocabulary(std::string& out, const TokenTable& table, const ModelJsonOptions& options) {
  ObjectWriter vocabulary(out);
  for (int32_t id = 0; id < table.id_end(); ++id)
    if (table.has_id(id) && table.find(table.text(id)) == id) vocabulary.integer(table.text(id), id);
  for (const auto& [text, id] : options.more_tokens) vocabulary.integer(text, id);
  vocabulary.end();
}

}  // namespace

void BpeModel::write_json(std::string& out, const ModelJsonOptions& options) const {
  ObjectWriter model(out);
  model.text("type", "BPE");
  model.null("dropout");
  model.text_or_null("unk_token", options_.unk_token);
  model.text_or_null("continuing_subword_prefix", options_.continuing_subword_prefix);
  model.text_or_null("end_of_word_suffix", options_.end_of_word_suffix);
  model.flag("fuse_unk", options_.fuse_unk);
  model.flag("byte_fallback", options_.byte_fallback);
  model.flag("ignore_merges", options_.ignore_merges || options.takes_whole_pieces);
  write_vocabulary(model.key("vocab"), vocabulary_, options);
  std::vector<Merge> merges;
  for (const Merge& merge : merges_)
    if (merge.pair != kNoPair) merges.push_back(merge);
  // Merges of equal rank make the same token; the order of their pairs is as good as any, and always the
  // same.
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return a.rank != b.rank ? a.rank < b.rank : a.pair < b.pair;
  });
  const auto left = [&](const Merge& m) { return vocabulary_.text(static_cast<int32_t>(m.pair >> 32)); };
  const auto right = [&](const Merge& m) {
    return vocabulary_.text(static_cast<int32_t>(m.pair & 0xFFFFFFFFu));
  };
  // A file may give one id to two tokens; merges name tokens by their ids here, and would come out otherwise.
  std::string merged;
  for (const Merge& m : merges) {
    merged = left(m);
    merged += right(m).substr(std::min(options_.continuing_subword_prefix.size(), right(m).size()));
    if (vocabulary_.find(left(m)) != static_cast<int32_t>(m.pair >> 32) ||
        vocabulary_.find(right(m)) != static_cast<int32_t>(m.pair & 0xFFFFFFFFu) ||
        vocabulary_.find(merged) != m.id || vocabulary_.text(m.id) != merged)
      fail("{}: several tokens share an id ({}), so the vocabulary cannot be written again", where_, m.id);
  }
  const bool lines = std::none_of(merges.begin(), merges.end(), [&](const Merge& m) {
    return left(m).find(' ') != std::string_view::npos || right(m).find(' ') != std::string_view::npos ||
           left(m).substr(0, 8) == "#version";
  });
  std::string& list = model.key("merges");
  list += '[';
  std::string line;
  for (size_t i = 0; i < merges.size(); ++i) {
    if (i > 0) list += ',';
    if (lines) {
      line = left(merges[i]);
      line += ' ';
      line += right(merges[i]);
      list += json_quote(line);
    } else {
      list += '[' + json_quote(left(merges[i])) + ',' + json_quote(right(merges[i])) + ']';
    }
  }
  list += ']';
  model.end();
}

void UnigramModel::write_json(std::string& out, const ModelJsonOptions& options) const {
  double worst = std::numeric_limits<double>::infinity();
  for (const double score : scores_)
    if (!std::isnan(score)) worst = std::min(worst, score);
  if (std::isinf(worst)) worst = 0;
  // A list: ids without a token get a name that no text holds.
  int64_t end = vocabulary_.id_end();
  for (const auto& [text, id] : options.more_tokens) end = std::max<int64_t>(end, int64_t{id} + 1);
  std::vector<std::pair<std::string, double>> entries(static_cast<size_t>(end), {std::string(), worst});
  for (int32_t id = 0; id < vocabulary_.id_end(); ++id) {
    if (!vocabulary_.has_id(id)) continue;
    const double score = scores_[static_cast<size_t>(id)];
    // Tokens that are never found in a text cannot be said to be so; the worst score keeps them rare.
    entries[static_cast<size_t>(id)] = {std::string(vocabulary_.text(id)), std::isnan(score) ? worst : score};
  }
  for (const auto& [text, id] : options.more_tokens) entries[static_cast<size_t>(id)].first = text;
  ObjectWriter model(out);
  model.text("type", "Unigram");
  if (options_.unk_id >= 0)
    model.integer("unk_id", options_.unk_id);
  else
    model.null("unk_id");
  std::string& list = model.key("vocab");
  list += '[';
  for (size_t id = 0; id < entries.size(); ++id) {
    auto& [text, score] = entries[id];
    if (text.empty()) text = "\xF4\x8F\xBF\xBF[EMPTY_" + std::to_string(id) + "]";
    list += (id == 0 ? "[" : ",[") + json_quote(text) + ',' + python_float_repr(score) + ']';
  }
  list += ']';
  model.flag("byte_fallback", options_.byte_fallback);
  model.end();
}

void WordLevelModel::write_json(std::string& out, const ModelJsonOptions& options) const {
  ObjectWriter model(out);
  model.text("type", "WordLevel");
  write_vocabulary(model.key("vocab"), vocabulary_, options);
  model.text("unk_token", unk_token_);
  model.end();
}

void WordPieceModel::write_json(std::string& out, const ModelJsonOptions& options) const {
  ObjectWriter model(out);
  model.text("type", "WordPiece");
  model.text("unk_token", options_.unk_token);
  model.text("continuing_subword_prefix", options_.continuing_subword_prefix);
  model.integer("max_input_chars_per_word", options_.max_input_chars_per_word);
  write_vocabulary(model.key("vocab"), vocabulary_, options);
  model.end();
}

}  // namespace serval
