// Which tokens of a supervised row are trained, and how much each counts.
//
//   const TokenWeights weights = weights_of_text(completion_mask, ids, tokenizer, {.prompt_loss_weight =
//   0.1});
//
// A mask begins with every token (conversations, text) or with the completion (rows that have a prompt), and
// each option takes more away:
//  - assistant_only_loss, train_on_roles: what others than these roles say;
//  - train_on_inputs false: what others than the assistant say (of rows with a prompt, the prompt); true is
//  the
//    other way round;
//  - ends (Axolotl's train_on_eos): what stands behind the token that ends a turn, and that token, unless it
//  is
//    wanted. Masks by role, of the assistant where none is named;
//  - last_turn_only: all but the last message of these roles (the assistant's, where none is named);
//  - instruction_part and response_part: what stands outside of responses, told by the tokens of these texts.
// What was taken away still counts prompt_loss_weight. A message that carries a weight of its own ("weight",
// "train", "loss_weight") counts as that says, whatever the options: 0 takes it away, above 0 trains it. One
// with a "train_detail" is trained in these characters of its content alone, and in what the template puts
// after it.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/row_shape.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace serval {

// Which tokens that end a turn are trained.
enum class TurnEnds {
  as_written,  // the template's text after an answer belongs to the answer
  turn,        // of trained turns
  all,         // of every turn
  last,        // of the last trained turn
  none
};
TurnEnds turn_ends_from_name(const std::string& name);  // "turn", ...; "" is as_written

struct MaskOptions {
  bool assistant_only_loss = false;
  std::optional<bool> completion_only_loss;  // unset: true where rows have a prompt
  std::vector<std::string> train_on_roles;
  std::optional<bool> train_on_inputs;
  TurnEnds ends = TurnEnds::as_written;
  std::vector<std::string> eot_tokens;  // that end a turn; empty: the end-of-text token
  bool last_turn_only = false;
  std::string instruction_part, response_part;  // both or none
  double prompt_loss_weight = 0;
};

// Is the loss of rows with a prompt on their completion alone?
bool completion_alone(const MaskOptions& options);

// Options that cannot hold for rows of this shape are a UserError that names `path`.
void check_mask_options(const MaskOptions& options, const DatasetShape& shape,
                        const ChatTemplate* chat_template, const std::string& path);

// One number a token: 0 is not trained.
using TokenWeights = std::vector<float>;

// `trained`: the mask so far (the completion), taken down further.
TokenWeights weights_of_text(std::vector<bool> trained, const std::vector<int32_t>& ids,
                             const Tokenizer& tokenizer, const MaskOptions& options);
// `messages` with their weights; `conversation` without, as it was rendered to `chat` and tokenised to
// `tokens`.
TokenWeights weights_of_chat(std::vector<bool> trained, const Json::Array& messages, const Json& conversation,
                             const RenderedChat& chat, const Encoding& tokens, const Tokenizer& tokenizer,
                             const ChatTemplate& chat_template, const MaskOptions& options);

}  // namespace serval
