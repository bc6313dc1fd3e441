// Which file of a model's directory the tokenizer is read from.
#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "formats/gguf.h"
#include "text/tokenizer.h"
#include "text/tokenizer/configured_tokens.h"
#include "text/tokenizer/gguf_vocabulary.h"
#include "text/tokenizer/parts.h"
#include "text/tokenizer/rank_file.h"
#include "text/tokenizer/sentencepiece.h"
#include "text/tokenizer/vocabulary_files.h"

namespace serval {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 29;

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// A file that is SentencePiece or a rank file: both are called tokenizer.model.
TokenizerParts parts_from_model_file(const std::string& path, const TokenizerOptions& options,
                                     const TokenizerSettings& settings) {
  const std::string bytes = read_file(path, kMaxFileBytes);
  if (looks_like_tiktoken(bytes))
    return parts_from_tiktoken(bytes, {.pattern = options.tiktoken_pattern}, settings, path);
  return parts_from_sentencepiece(SentencePieceModel::parse(bytes, path), settings, path);
}

bool is_rank_file(const std::string& name) {
  return ends_with(name, ".tiktoken") || name == "tiktoken.model";
}

TokenizerParts parts_from_file(const std::string& path, const TokenizerOptions& options) {
  const std::string directory = directory_of(path), name = base_name(path);
  if (is_gguf(path) || ends_with(name, ".gguf")) return parts_from_gguf(GgufMetadata::open(path));
  const TokenizerSettings settings = read_tokenizer_settings(directory);
  if (ends_with(name, ".model") || starts_with(name, "tokenizer.model.") || ends_with(name, ".spm") ||
      is_rank_file(name))
    return parts_from_model_file(path, options, settings);
  if (name == "vocab.txt") return parts_from_word_list(path, settings);
  if (starts_with(name, "tekken") && ends_with(name, ".json"))
    return parts_from_tekken(read_file(path, kMaxFileBytes), settings, path);
  if (name == "vocab.json" || name == "merges.txt") {
    const std::string vocabulary = join_path(directory, "vocab.json"),
                      merges = join_path(directory, "merges.txt");
    for (const std::string& needed : {vocabulary, merges})
      if (!file_exists(needed)) fail("{}: there is no {} beside it", path, base_name(needed));
    return parts_from_vocabulary_and_merges(vocabulary, merges, settings);
  }
  if (ends_with(name, ".json")) {
    const std::string config_path = join_path(directory, "tokenizer_config.json");
    const Json config = file_exists(config_path) ? Json::parse(read_file(config_path, 64 << 20), config_path)
                                                 : Json::object();
    if (!config.is_object()) fail("{}: expected an object, found a {}", config_path, config.type_name());
    TokenizerParts parts = parts_from_tokenizer_json(read_file(path, kMaxFileBytes), config, path);
    parts.tokens_of_json_file = static_cast<int64_t>(parts.added_tokens.size());
    return parts;
  }
  fail(
      "{}: not the name of a tokenizer file; known are tokenizer.json, tokenizer.model, tekken.json, "
      "vocab.json, "
      "vocab.txt, *.tiktoken and *.gguf",
      path);
}

// The file of a directory that a tokenizer is read from, the surest first.
std::string choose_file(const std::string& directory) {
  if (!directory_exists(directory)) fail("{}: no such directory", directory);
  const auto has = [&](const char* name) { return file_exists(join_path(directory, name)); };
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"})
    if (has(name)) return join_path(directory, name);
  if (has("vocab.json") && has("merges.txt")) return join_path(directory, "vocab.json");
  const std::vector<std::string> names = list_directory(directory);
  std::vector<std::string> ranks, ggufs;
  std::copy_if(names.begin(), names.end(), std::back_inserter(ranks), is_rank_file);
  std::copy_if(names.begin(), names.end(), std::back_inserter(ggufs),
               [](const std::string& name) { return ends_with(name, ".gguf"); });
  if (ranks.size() == 1) return join_path(directory, ranks[0]);
  if (has("vocab.txt")) return join_path(directory, "vocab.txt");
  if (ggufs.size() == 1) return join_path(directory, ggufs[0]);
  if (ranks.size() > 1 || ggufs.size() > 1)
    fail("{}: {} rank files and {} GGUF files could hold the tokenizer; name one of them", directory,
         ranks.size(), ggufs.size());
  fail(
      "{}: no tokenizer here; looked for tokenizer.json, tokenizer.model, spiece.model, "
      "sentencepiece.bpe.model, "
      "tekken.json, vocab.json with merges.txt, *.tiktoken, tiktoken.model, vocab.txt and *.gguf",
      directory);
}

}  // namespace

Tokenizer Tokenizer::from_directory(const std::string& directory, const TokenizerOptions& options) {
  return from_path(choose_file(directory), options);
}

Tokenizer Tokenizer::from_path(const std::string& path, const TokenizerOptions& options) {
  if (directory_exists(path)) return from_directory(path, options);
  if (!file_exists(path)) fail("{}: no such file or directory", path);
  TokenizerParts parts = parts_from_file(path, options);
  if (base_name(path) != "tokenizer.json")
    parts.notes.insert(parts.notes.begin(), fmt::format("the tokenizer is read from {}", path));
  return from_parts(std::move(parts));
}

}  // namespace serval
