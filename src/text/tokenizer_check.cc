#include "text/tokenizer_check.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

bool has_row(const ModelTokens& model, int32_t id) {
  return model.embedding_rows == 0 || id < model.embedding_rows;
}

// "eos_token" and so on as tokenizer_config.json names it.
std::optional<std::string> configured(const Tokenizer& tokenizer, const std::string& key) {
  const Json* value = tokenizer.config().find(key);
  if (value != nullptr && value->is_object()) value = value->find("content");
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return value->as_string();
}

}  // namespace

std::optional<int32_t> suggest_pad_id(const Tokenizer& tokenizer, const ModelTokens& model) {
  const auto usable = [&](std::optional<int32_t> id) {
    return id && id != tokenizer.eos_id() && id != tokenizer.bos_id() && has_row(model, *id) &&
           std::find(model.eos_ids.begin(), model.eos_ids.end(), *id) == model.eos_ids.end();
  };
  for (const char* name :
       {"<pad>", "[PAD]", "<|pad|>", "<|PAD|>", "<|finetune_right_pad_id|>", "<|vid_pad|>", "<PAD>"})
    if (const auto id = tokenizer.token_to_id(name); usable(id)) return id;
  // Reserved tokens, from the last on: the first are the likeliest to get a meaning.
  std::optional<int32_t> reserved;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_special(id) || !usable(id)) continue;
    const std::string text = tokenizer.id_to_token(id);
    for (const char* part : {"reserved", "unused", "placeholder", "dummy"})
      if (text.find(part) != std::string::npos) reserved = id;
  }
  if (reserved) return reserved;
  for (const char* name : {"<unk>", "[UNK]", "<|unk|>"})
    if (const auto id = tokenizer.token_to_id(name); usable(id)) return id;
  return std::nullopt;
}

std::vector<TokenizerFinding> check_tokenizer(const Tokenizer& tokenizer, const ModelTokens& model) {
  using Kind = TokenizerFinding::Kind;
  std::vector<TokenizerFinding> findings;
  const auto name_of = [&](int32_t id) {
    return fmt::format("{} ({})", in_quotes(tokenizer.id_to_token(id)), id);
  };
  const auto eos = tokenizer.eos_id(), pad = tokenizer.pad_id();
  for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"})
    if (const auto name = configured(tokenizer, key); name && !tokenizer.token_to_id(*name))
      findings.push_back(
          {Kind::kUnknownToken,
           fmt::format("tokenizer_config.json names {} as {}, which is no token; it is ignored",
                       in_quotes(*name), key),
           std::nullopt});
  const std::optional<int32_t> model_eos =
      model.eos_ids.empty() ? std::nullopt : std::optional(model.eos_ids.front());
  if (!eos) {
    findings.push_back({Kind::kNoEos,
                        "the tokenizer has no eos token, so a model would not learn to stop; name one",
                        model_eos});
  } else if (model_eos &&
             std::find(model.eos_ids.begin(), model.eos_ids.end(), *eos) == model.eos_ids.end()) {
    findings.push_back({Kind::kOtherEos,
                        fmt::format("the tokenizer ends a text with {}, the model's configuration with {}",
                                    name_of(*eos), name_of(*model_eos)),
                        model_eos});
  }
  if (!pad) {
    findings.push_back({Kind::kNoPad, "the tokenizer has no pad token", suggest_pad_id(tokenizer, model)});
  } else if (eos && *pad == *eos) {
    findings.push_back(
        {Kind::kPadIsEos,
         fmt::format("pad and eos are both {}; tools that mask pad tokens would mask the eos too, "
                     "and a model trained so never stops",
                     name_of(*eos)),
         suggest_pad_id(tokenizer, model)});
  }
  if (model.embedding_rows > 0 && tokenizer.vocab_size() > model.embedding_rows) {
    std::string names;
    for (int32_t id = static_cast<int32_t>(model.embedding_rows); id < tokenizer.vocab_size(); ++id)
      if (const std::string text = tokenizer.id_to_token(id); !text.empty() && names.size() < 100)
        names += (names.empty() ? "" : ", ") + name_of(id);
    if (!names.empty())
      findings.push_back({Kind::kNoRow,
                          fmt::format("the model has {} rows of embeddings, none for the tokens {}",
                                      model.embedding_rows, names),
                          std::nullopt});
  }
  std::string untrained;
  for (const int32_t id : model.untrained_ids) {
    const std::string text = tokenizer.id_to_token(id);
    const bool used = id == eos || (!text.empty() && model.chat_template.find(text) != std::string::npos);
    if (used && untrained.size() < 100) untrained += (untrained.empty() ? "" : ", ") + name_of(id);
  }
  if (!untrained.empty())
    findings.push_back(
        {Kind::kUntrained,
         fmt::format("the chat template uses tokens that the model was never trained on: {}; their "
                     "embeddings are rows of zeros",
                     untrained),
         std::nullopt});
  return findings;
}

}  // namespace serval
