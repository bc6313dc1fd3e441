#include "text/tokenizer/model_json.h"

#include "text/tokenizer/bpe.h"
#include "text/tokenizer/json_section.h"
#include "text/tokenizer/unigram_json.h"
#include "text/tokenizer/word_models.h"

namespace serval {
namespace {

TokenTable read_vocabulary(const simdjson::dom::object& model, const std::string& where) {
  simdjson::dom::object vocab;
  if (model.at_key("vocab").get(vocab) != simdjson::SUCCESS)
    fail("{}: model.vocab is missing or no object", where);
  TokenTable table;
  table.reserve(vocab.size());
  for (const auto field : vocab) {
    int64_t id = -1;
    if (field.value.get(id) != simdjson::SUCCESS)
      fail("{}: model.vocab: the id of '{}' is not an integer", where, field.key);
    table.add(field.key, checked_id(id, field.key, where + ": model.vocab"));
  }
  return table;
}

void read_merges(const simdjson::dom::object& model, BpeModel& bpe, const std::string& where) {
  simdjson::dom::array merges;
  if (model.at_key("merges").get(merges) != simdjson::SUCCESS)
    fail("{}: model.merges is missing or no list", where);
  bpe.reserve_merges(merges.size());
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  constexpr size_t kAtATime = 1024;
  int64_t rank = 0;
  const auto add_pairs = [&] {
    bpe.add_merges(pairs, rank);
    rank += static_cast<int64_t>(pairs.size());
    pairs.clear();
  };
  for (const simdjson::dom::element merge : merges) {
    std::string_view line, left, right;
    simdjson::dom::array pair;
    if (merge.get(line) == simdjson::SUCCESS) {
      if (starts_with(line, "#version")) continue;
      const size_t space = line.find(' ');
      if (space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos) {
        pairs.emplace_back(line.substr(0, space), line.substr(space + 1));
      } else {
        pairs.emplace_back(line, std::string_view());
      }
    } else if (merge.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
               pair.at(0).get(left) == simdjson::SUCCESS && pair.at(1).get(right) == simdjson::SUCCESS) {
      pairs.emplace_back(left, right);
    } else {
      fail("{}: model.merges[{}]: expected \"a b\" or [\"a\", \"b\"]", where,
           rank + static_cast<int64_t>(pairs.size()));
    }
    if (pairs.size() == kAtATime) add_pairs();
  }
  add_pairs();
}

std::unique_ptr<TokenModel> make_bpe_model(const simdjson::dom::object& model, const std::string& where) {
  // The small settings, without the vocabulary.
  Json settings = Json::object();
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                          "fuse_unk", "byte_fallback", "ignore_merges"})
    settings.set(key, section(model, key, where + ": model"));
  BpeOptions options{.unk_token = text_or_empty(settings, "unk_token"),
                     .continuing_subword_prefix = text_or_empty(settings, "continuing_subword_prefix"),
                     .end_of_word_suffix = text_or_empty(settings, "end_of_word_suffix"),
                     .fuse_unk = flag(settings, "fuse_unk"),
                     .byte_fallback = flag(settings, "byte_fallback"),
                     .ignore_merges = flag(settings, "ignore_merges")};
  if (const Json& dropout = settings.at("dropout"); !dropout.is_null() && dropout.as_double() != 0.0)
    fail("{}: model.dropout is {}, but random merges are not supported", where, dropout.dump());
  auto bpe = std::make_unique<BpeModel>(read_vocabulary(model, where), std::move(options), where);
  read_merges(model, *bpe, where);
  return bpe;
}

std::unique_ptr<TokenModel> make_word_piece_model(const simdjson::dom::object& model,
                                                  const std::string& where) {
  WordPieceOptions options;
  const auto set = [&](const char* key, std::string& text) {
    if (const Json value = section(model, key, where + ": model"); !value.is_null()) text = value.as_string();
  };
  set("unk_token", options.unk_token);
  set("continuing_subword_prefix", options.continuing_subword_prefix);
  if (const Json most = section(model, "max_input_chars_per_word", where + ": model"); !most.is_null())
    options.max_input_chars_per_word = most.as_int();
  return std::make_unique<WordPieceModel>(read_vocabulary(model, where), std::move(options), where);
}

std::unique_ptr<TokenModel> make_word_level_model(const simdjson::dom::object& model,
                                                  const std::string& where) {
  const Json unk_token = section(model, "unk_token", where + ": model");
  return std::make_unique<WordLevelModel>(read_vocabulary(model, where),
                                          unk_token.is_null() ? "<unk>" : unk_token.as_string(), where);
}

bool has(const simdjson::dom::object& object, std::string_view key) {
  simdjson::dom::element value;
  return object.at_key(key).get(value) == simdjson::SUCCESS;
}

// Old files do not name the type; each type has keys that no other has.
std::string type_of(const simdjson::dom::object& model, const std::string& where) {
  const Json named = section(model, "type", where + ": model");
  if (!named.is_null()) return named.as_string();
  if (has(model, "merges")) return "BPE";
  if (has(model, "max_input_chars_per_word")) return "WordPiece";
  simdjson::dom::object words;
  if (model.at_key("vocab").get(words) == simdjson::SUCCESS) return "WordLevel";
  return has(model, "vocab") ? "Unigram" : "";
}

}  // namespace

std::unique_ptr<TokenModel> make_token_model(const simdjson::dom::object& model, const std::string& where) {
  const std::string type = type_of(model, where);
  if (type == "BPE") return make_bpe_model(model, where);
  if (type == "WordPiece") return make_word_piece_model(model, where);
  if (type == "WordLevel") return make_word_level_model(model, where);
  if (type == "Unigram") return make_unigram_model(model, where);
  if (type.empty()) fail("{}: the model names no type, and its keys are those of no known one", where);
  fail("{}: the model '{}' is not known; BPE, Unigram, WordPiece and WordLevel are", where, type);
}

}  // namespace serval
