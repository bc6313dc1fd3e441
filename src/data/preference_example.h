// Rows of preference pairs, answers with a verdict, and prompts as tokens, as TRL's DPO, KTO and GRPO make
// them: texts get an end-of-text token, messages go through the chat template, and an answer begins where its
// tokens part from those of the prompt alone.
//
//   const PreferenceIds ids = tokenize_preference(std::get<PreferenceRow>(row.body), row.context, shape.chat,
//                                                 tokenizer, &chat_template);
//   const AnswerIds chosen = join_answer(ids.prompt, ids.chosen, 1024, Truncation::keep_start);
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "data/example.h"
#include "data/row.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

struct PreferenceIds {
  std::vector<int32_t> prompt, chosen, rejected;
  // The prompt has other tokens alone than before an answer: its end is left out of `prompt`.
  bool boundary_mismatch = false;
};
struct CompletionIds {
  std::vector<int32_t> prompt, completion;
  bool boundary_mismatch = false;
};

// `chat_template` may be null where `chat` is false. `context`: TrainingRow::context.
PreferenceIds tokenize_preference(const PreferenceRow& row, const Json& context, bool chat,
                                  const Tokenizer& tokenizer, const ChatTemplate* chat_template);
CompletionIds tokenize_unpaired(const UnpairedRow& row, const Json& context, bool chat,
                                const Tokenizer& tokenizer, const ChatTemplate* chat_template);
// Up to where a model goes on.
std::vector<int32_t> tokenize_prompt(const PromptRow& row, const Json& context, bool chat,
                                     const Tokenizer& tokenizer, const ChatTemplate* chat_template);

// A prompt with its answer as one sequence of at most max_length tokens (0: no limit).
struct AnswerIds {
  std::vector<int32_t> ids;
  int64_t prompt_tokens = 0;  // of ids
};
// Unset where nothing of the answer is left (keep_start; TRL drops such rows), or where the row is too long
// and `truncation` is drop. Truncation::refuse is the caller's to check.
std::optional<AnswerIds> join_answer(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer,
                                     int64_t max_length, Truncation truncation);

}  // namespace serval
