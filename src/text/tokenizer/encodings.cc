#include "text/tokenizer/encodings.h"

#include "base/text.h"

namespace serval {
namespace patterns {

const char* const kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kCl100k =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s+\z|\s*[\r\n]|\s+(?!\S)|\s)";
const char* const kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
// "[...&&[^\p{Han}]]" of the original is written as a look ahead.
const char* const kKimi =
    R"(\p{Han}+)"
    R"(|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])*(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])+(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                            R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                            R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace patterns

namespace {

const KnownEncoding kEncodings[] = {
    {"gpt2", patterns::kGpt2, 50256},
    {"r50k_base", patterns::kGpt2, 50256},
    {"p50k_base", patterns::kGpt2, 50281},
    {"p50k_edit", patterns::kGpt2, 50281},
    {"cl100k_base", patterns::kCl100k, 100256},
    {"o200k_base", patterns::kO200k, 199998},
    {"o200k_harmony", patterns::kO200k, 199998},
    {"qwen", patterns::kQwen2, 151643, true},
    {"llama3", patterns::kLlama3, 128000},
    {"llama4", patterns::kO200k, 200000},
    {"kimi", patterns::kKimi, 163584},
};

using Tokens = std::vector<std::pair<std::string, int32_t>>;

void add_numbered(Tokens& tokens, const char* prefix, int32_t first, int32_t count, int32_t id) {
  for (int32_t i = 0; i < count; ++i) tokens.emplace_back(prefix + std::to_string(first + i) + "|>", id + i);
}

Tokens o200k_harmony_tokens() {
  Tokens tokens = {{"<|startoftext|>", 199998}, {"<|endoftext|>", 199999}, {"<|return|>", 200002},
                   {"<|constrain|>", 200003},   {"<|channel|>", 200005},   {"<|start|>", 200006},
                   {"<|end|>", 200007},         {"<|message|>", 200008},   {"<|call|>", 200012}};
  for (const int32_t id : {200000, 200001, 200004, 200009, 200010, 200011})
    tokens.emplace_back("<|reserved_" + std::to_string(id) + "|>", id);
  add_numbered(tokens, "<|reserved_", 200013, 201088 - 200013, 200013);
  tokens[tokens.size() - 1 - (201087 - 200018)].first = "<|endofprompt|>";
  return tokens;
}

Tokens llama3_tokens() {
  Tokens tokens = {{"<|begin_of_text|>", 128000},
                   {"<|end_of_text|>", 128001},
                   {"<|reserved_special_token_0|>", 128002},
                   {"<|reserved_special_token_1|>", 128003},
                   {"<|finetune_right_pad_id|>", 128004},
                   {"<|reserved_special_token_2|>", 128005},
                   {"<|start_header_id|>", 128006},
                   {"<|end_header_id|>", 128007},
                   {"<|eom_id|>", 128008},
                   {"<|eot_id|>", 128009},
                   {"<|python_tag|>", 128010}};
  add_numbered(tokens, "<|reserved_special_token_", 3, 245, 128011);
  return tokens;
}

}  // namespace

const KnownEncoding* find_encoding(std::string_view name) {
  for (const KnownEncoding& encoding : kEncodings)
    if (name == encoding.name) return &encoding;
  return nullptr;
}

const KnownEncoding* find_encoding_by_ranks(int64_t ranks) {
  for (const KnownEncoding& encoding : kEncodings)
    if (ranks == encoding.ranks) return &encoding;
  // The last rank of these lies behind a gap.
  if (ranks == 50280) return find_encoding("p50k_base");
  return nullptr;
}

std::string names_of_encodings() {
  std::vector<std::string> names;
  for (const KnownEncoding& encoding : kEncodings) names.emplace_back(encoding.name);
  return join(names, ", ");
}

std::vector<std::pair<std::string, int32_t>> special_tokens_of(const KnownEncoding& encoding) {
  const std::string_view name = encoding.name;
  if (name == "gpt2" || name == "r50k_base" || name == "p50k_base") return {{"<|endoftext|>", 50256}};
  if (name == "p50k_edit")
    return {{"<|endoftext|>", 50256},
            {"<|fim_prefix|>", 50281},
            {"<|fim_middle|>", 50282},
            {"<|fim_suffix|>", 50283}};
  if (name == "cl100k_base")
    return {{"<|endoftext|>", 100257},
            {"<|fim_prefix|>", 100258},
            {"<|fim_middle|>", 100259},
            {"<|fim_suffix|>", 100260},
            {"<|endofprompt|>", 100276}};
  if (name == "o200k_base") return {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}};
  if (name == "o200k_harmony") return o200k_harmony_tokens();
  if (name == "llama3") return llama3_tokens();
  if (name == "llama4") return {{"<|begin_of_text|>", 200000}, {"<|end_of_text|>", 200001}};
  Tokens tokens;
  if (name == "qwen") {
    tokens = {{"<|endoftext|>", 151643}, {"<|im_start|>", 151644}, {"<|im_end|>", 151645}};
    add_numbered(tokens, "<|extra_", 0, 205, 151646);
  } else if (name == "kimi") {
    tokens = {{"[BOS]", 163584},
              {"[EOS]", 163585},
              {"<|im_end|>", 163586},
              {"<|im_user|>", 163587},
              {"<|im_assistant|>", 163588},
              {"<|start_header_id|>", 163590},
              {"<|end_header_id|>", 163591},
              {"[EOT]", 163593},
              {"<|im_system|>", 163594},
              {"<|im_middle|>", 163601},
              {"[UNK]", 163838},
              {"[PAD]", 163839}};
  }
  return tokens;
}

Json::Object config_of(const KnownEncoding& encoding) {
  const std::string_view name = encoding.name;
  if (name == "llama3" || name == "llama4")
    return {{"bos_token", "<|begin_of_text|>"}, {"eos_token", "<|end_of_text|>"}, {"add_bos_token", true}};
  if (name == "kimi") return {{"bos_token", "[BOS]"}, {"eos_token", "[EOS]"}, {"pad_token", "[PAD]"}};
  return {{"eos_token", "<|endoftext|>"}};
}

std::vector<std::string> old_tekken_special_tokens() {
  return {"<unk>",
          "<s>",
          "</s>",
          "[INST]",
          "[/INST]",
          "[AVAILABLE_TOOLS]",
          "[/AVAILABLE_TOOLS]",
          "[TOOL_RESULTS]",
          "[/TOOL_RESULTS]",
          "[TOOL_CALLS]",
          "[IMG]",
          "<pad>",
          "[IMG_BREAK]",
          "[IMG_END]",
          "[PREFIX]",
          "[MIDDLE]",
          "[SUFFIX]",
          "[SYSTEM_PROMPT]",
          "[/SYSTEM_PROMPT]",
          "[TOOL_CONTENT]"};
}

}  // namespace serval
