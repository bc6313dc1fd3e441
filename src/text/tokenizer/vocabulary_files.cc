#include "text/tokenizer/vocabulary_files.h"

#include <simdjson.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/encodings.h"
#include "text/tokenizer/json_section.h"

namespace serval {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{256} << 20;

// How the classes of transformers with a byte-level BPE vocabulary cut text.
struct ByteLevelClass {
  const char* name;
  const char* pattern;  // nullptr: GPT-2's
  bool nfc;
  bool single_digits;
  Json::Object tokens;  // what the class assumes
  bool roberta = false;
};

const std::vector<ByteLevelClass>& byte_level_classes() {
  static const Json::Object end_of_text = {
      {"unk_token", "<|endoftext|>"}, {"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}};
  static const Json::Object qwen = {
      {"unk_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}, {"pad_token", "<|endoftext|>"}};
  static const Json::Object roberta = {
      {"bos_token", "<s>"},   {"eos_token", "</s>"},  {"sep_token", "</s>"},   {"cls_token", "<s>"},
      {"unk_token", "<unk>"}, {"pad_token", "<pad>"}, {"mask_token", "<mask>"}};
  static const Json::Object neox = {{"unk_token", "<|endoftext|>"},
                                    {"bos_token", "<|endoftext|>"},
                                    {"eos_token", "<|endoftext|>"},
                                    {"pad_token", "<|padding|>"}};
  static const Json::Object cohere = {
      {"unk_token", "<UNK>"},        {"bos_token", "<BOS_TOKEN>"}, {"eos_token", "<|END_OF_TURN_TOKEN|>"},
      {"pad_token", "<PAD>"},        {"cls_token", "<CLS>"},       {"sep_token", "<SEP>"},
      {"mask_token", "<MASK_TOKEN>"}};
  static const std::vector<ByteLevelClass> classes = {
      {"GPT2Tokenizer", nullptr, false, false, end_of_text},
      {"CodeGenTokenizer", nullptr, false, false, end_of_text},
      {"WhisperTokenizer", nullptr, false, false, end_of_text},
      {"Qwen2Tokenizer", patterns::kQwen2, true, false, qwen},
      {"Qwen3_5Tokenizer", patterns::kQwen35, true, false, qwen},
      {"GPTNeoXTokenizer", nullptr, true, false, neox},
      {"CohereTokenizer", nullptr, true, true, cohere},
      {"RobertaTokenizer", nullptr, false, false, roberta, true},
      {"BartTokenizer", nullptr, false, false, roberta, true},
      {"LongformerTokenizer", nullptr, false, false, roberta, true},
      {"LEDTokenizer", nullptr, false, false, roberta, true},
  };
  return classes;
}

const ByteLevelClass& choose_class(const TokenizerSettings& settings, TokenizerParts& parts) {
  std::string name = settings.tokenizer_class, reason;
  const auto find = [](std::string_view wanted) -> const ByteLevelClass* {
    for (const ByteLevelClass& one : byte_level_classes())
      if (wanted == one.name) return &one;
    return nullptr;
  };
  if (const ByteLevelClass* named = find(name)) return *named;
  const bool generic = name.empty() || name == "PreTrainedTokenizer" || name == "TokenizersBackend";
  if (!generic)
    fail(
        "{}: the class {} is not known for a vocabulary with merges; known are GPT2Tokenizer, "
        "Qwen2Tokenizer, "
        "RobertaTokenizer and their like; convert this one with transformers (save_pretrained)",
        parts.where, in_quotes(name));
  const bool qwen = starts_with(settings.model_type, "qwen");
  const bool qwen35 = starts_with(settings.model_type, "qwen3_5");
  const ByteLevelClass& guessed = *find(qwen35 ? "Qwen3_5Tokenizer"
                                        : qwen ? "Qwen2Tokenizer"
                                               : "GPT2Tokenizer");
  parts.notes.push_back(fmt::format("{}: no tokenizer_config.json names a class; text is cut as {} does",
                                    parts.where, guessed.name));
  return guessed;
}

TokenTable read_vocabulary(const std::string& path) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  const simdjson::padded_string padded(read_file(path, kMaxFileBytes));
  if (const auto error = parser.parse(padded).get(document); error != simdjson::SUCCESS)
    fail("{}: not valid JSON: {}", path, simdjson::error_message(error));
  simdjson::dom::object vocab;
  if (document.get(vocab) != simdjson::SUCCESS) fail("{}: expected an object of tokens and ids", path);
  TokenTable table;
  table.reserve(vocab.size());
  for (const auto field : vocab) {
    int64_t id = -1;
    if (field.value.get(id) != simdjson::SUCCESS)
      fail("{}: the id of {} is not an integer", path, in_quotes(field.key));
    table.add(field.key, checked_id(id, field.key, path));
  }
  if (table.id_end() == 0) fail("{}: the vocabulary is empty", path);
  return table;
}

void read_merges(const std::string& path, BpeModel& model) {
  const std::string file = read_file(path, kMaxFileBytes);
  if (valid_utf8_prefix(file).ill_formed != 0) fail("{}: not UTF-8", path);
  model.reserve_merges(static_cast<size_t>(std::count(file.begin(), file.end(), '\n')) + 1);
  int64_t rank = 0;
  for (size_t begin = 0; begin < file.size();) {
    const size_t end = std::min(file.find('\n', begin), file.size());
    std::string_view line = std::string_view(file).substr(begin, end - begin);
    begin = end + 1;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || starts_with(line, "#version")) continue;
    model.add_merge(line, rank++);
  }
}

Json object(Json::Object members) {
  return Json(std::move(members));
}

bool flag_or(const Json& config, std::string_view key, bool otherwise) {
  const Json* value = config.find(key);
  return value == nullptr || !value->is_bool() ? otherwise : value->as_bool();
}

Json pre_tokenizer_of(const ByteLevelClass& one, bool prefix_space) {
  Json bytes = object({{"type", "ByteLevel"},
                       {"add_prefix_space", prefix_space},
                       {"trim_offsets", true},
                       {"use_regex", one.pattern == nullptr}});
  Json first;
  if (one.pattern != nullptr)
    first = object({{"type", "Split"},
                    {"pattern", object({{"Regex", one.pattern}})},
                    {"behavior", "Isolated"},
                    {"invert", false}});
  if (one.single_digits) first = object({{"type", "Digits"}, {"individual_digits", true}});
  if (first.is_null()) return bytes;
  return object({{"type", "Sequence"}, {"pretokenizers", Json::Array{std::move(first), std::move(bytes)}}});
}

// The token of a role of the config that some file gave, as post-processors name it: [text, id]; or an error.
Json token_of_role(const TokenizerParts& parts, std::string_view role) {
  const Json* value = parts.config.find(role);
  if (value != nullptr && value->is_object()) value = value->find("content");
  const std::string content = value != nullptr && value->is_string() ? value->as_string() : "";
  for (const AddedToken& token : parts.added_tokens)
    if (token.content == content) return Json(Json::Array{content, static_cast<int64_t>(token.id)});
  fail("{}: {} is {}, which is no token", parts.where, role, in_quotes(content));
}

}  // namespace

TokenizerParts parts_from_vocabulary_and_merges(const std::string& vocabulary_path,
                                                const std::string& merges_path,
                                                const TokenizerSettings& settings) {
  TokenizerParts parts;
  parts.where = vocabulary_path;
  parts.config = settings.config;
  const ByteLevelClass& one = choose_class(settings, parts);
  set_defaults(parts.config, one.tokens);
  auto model = std::make_shared<BpeModel>(read_vocabulary(vocabulary_path), BpeOptions{}, vocabulary_path);
  read_merges(merges_path, *model);
  parts.model = std::move(model);
  const bool prefix_space = flag_or(parts.config, "add_prefix_space", false);
  if (one.nfc) parts.normalizer = make_normalizer(object({{"type", "NFC"}}), parts.where);
  parts.pre_tokenizer = make_pre_tokenizer(pre_tokenizer_of(one, prefix_space), parts.where);
  parts.decoder = make_decoder(byte_level_decoder(), parts.where);
  add_configured_tokens(parts);
  if (one.roberta) {
    parts.post_processor =
        make_post_processor(object({{"type", "RobertaProcessing"},
                                    {"sep", token_of_role(parts, "sep_token")},
                                    {"cls", token_of_role(parts, "cls_token")},
                                    {"trim_offsets", flag_or(parts.config, "trim_offsets", true)},
                                    {"add_prefix_space", prefix_space}}),
                            parts.where);
  }
  return parts;
}

TokenizerParts parts_from_word_pieces(const WordPieceSource& source, Json config, const std::string& where) {
  set_defaults(config, {{"unk_token", "[UNK]"},
                        {"sep_token", "[SEP]"},
                        {"pad_token", "[PAD]"},
                        {"cls_token", "[CLS]"},
                        {"mask_token", "[MASK]"}});
  Json unknown = config.at("unk_token");
  if (unknown.is_object()) unknown = unknown.at("content");
  const Json* accents = config.find("strip_accents");
  // The sections of a tokenizer.json that say the same; the vocabulary is large and written by itself.
  const Json normalizer = object({{"type", "BertNormalizer"},
                                  {"clean_text", true},
                                  {"handle_chinese_chars", flag_or(config, "tokenize_chinese_chars", true)},
                                  {"strip_accents", accents == nullptr ? Json() : *accents},
                                  {"lowercase", flag_or(config, "do_lower_case", true)}});
  std::string vocabulary;
  for (size_t id = 0; id < source.words.size(); ++id)
    vocabulary += (id == 0 ? "" : ",") + json_quote(source.words[id]) + ":" + std::to_string(id);
  const std::string file = R"({"normalizer":)" + normalizer.dump() +
                           R"(,"pre_tokenizer":{"type":"BertPreTokenizer"},)"
                           R"("decoder":{"type":"WordPiece","prefix":"##","cleanup":true},)"
                           R"("model":{"type":"WordPiece","unk_token":)" +
                           unknown.dump() +
                           R"(,"continuing_subword_prefix":"##","max_input_chars_per_word":)" +
                           std::to_string(source.max_word_characters) + R"(,"vocab":{)" + vocabulary + "}}}";
  TokenizerParts parts = parts_from_tokenizer_json(file, config, where);
  add_configured_tokens(parts);
  parts.post_processor = make_post_processor(object({{"type", "BertProcessing"},
                                                     {"sep", token_of_role(parts, "sep_token")},
                                                     {"cls", token_of_role(parts, "cls_token")}}),
                                             parts.where);
  return parts;
}

TokenizerParts parts_from_word_list(const std::string& path, const TokenizerSettings& settings) {
  const std::string file = read_file(path, kMaxFileBytes);
  if (valid_utf8_prefix(file).ill_formed != 0) fail("{}: not UTF-8", path);
  WordPieceSource source;
  for (size_t begin = 0; begin < file.size();) {
    const size_t end = std::min(file.find('\n', begin), file.size());
    source.words.push_back(file.substr(begin, end - begin));
    if (!source.words.back().empty() && source.words.back().back() == '\r') source.words.back().pop_back();
    begin = end + 1;
  }
  if (source.words.empty()) fail("{}: the vocabulary is empty", path);
  return parts_from_word_pieces(source, settings.config, path);
}

}  // namespace serval
