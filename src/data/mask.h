// Which tokens are trained, told from byte positions or from token ids. By bytes, a token counts as inside a
// range of the text where no byte of it but blanks sticks out, so a token that mixes text of both sides of a
// boundary is outside.
//
//   const std::vector<bool> mask = tokens_inside(chat.text, tokenizer.encode(chat.text), chat.generated);
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

// Of each token: does it lie inside one of the spans? Blanks may stick out; a token without bytes is outside.
std::vector<bool> tokens_inside(std::string_view text, const Encoding& tokens,
                                std::span<const TextSpan> spans);

// Of each token of prompt + completion: does it belong to the completion? `prompt_bytes` is where the
// completion's text begins; unset where the prompt alone reads otherwise, so that the completion begins where
// tokens diverge.
std::vector<bool> tokens_of_completion(std::string_view text, const Encoding& whole,
                                       std::span<const int32_t> prompt_ids,
                                       std::optional<int64_t> prompt_bytes);

// Unsloth's train_on_responses_only: a response begins after the tokens `response` and ends before the next
// tokens `instruction`, or with the row. `last_only`: only what follows the last `response`. Neither of the
// two is empty.
std::vector<bool> tokens_of_responses(std::span<const int32_t> ids, std::span<const int32_t> instruction,
                                      std::span<const int32_t> response, bool last_only);

// How many tokens both begin with.
size_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b);

}  // namespace serval
