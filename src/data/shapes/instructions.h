// Instructions: rows of a question and its answer as columns of text. With a chat template they become
// messages, else the prompt text that the Alpaca model was trained on.
#pragma once
#include <string>

#include "data/row_shape.h"

namespace serval {

struct Instruction {
  std::string instruction, input, system;
};

std::string alpaca_prompt(const Instruction& instruction);
Json::Array instruction_messages(const Instruction& instruction);  // [system], user
Passage instruction_passage(const Instruction& instruction, bool chat);
Passage answer_passage(std::string answer, bool chat);

}  // namespace serval
