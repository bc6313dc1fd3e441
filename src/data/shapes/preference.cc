// A prompt and two answers, one of them preferred.
#include <algorithm>
#include <iterator>
#include <optional>

#include "base/error.h"
#include "data/shapes/columns.h"
#include "data/shapes/instructions.h"
#include "data/shapes/messages.h"
#include "data/shapes/shape_family.h"

namespace serval {
namespace {

struct PairColumns {
  std::string chosen, rejected;
};

std::optional<PairColumns> pair_columns(const Json& row) {
  static constexpr std::pair<const char*, const char*> kPairs[] = {{"chosen", "rejected"},
                                                                   {"chosen_response", "rejected_response"},
                                                                   {"chosen_messages", "rejected_messages"}};
  for (const auto& [chosen, rejected] : kPairs)
    if (row.contains(chosen) && row.contains(rejected)) return PairColumns{chosen, rejected};
  return std::nullopt;
}

// The column that holds what was asked; "" where the answers begin with it.
std::string prompt_column(const Json& row) {
  return first_column(row,
                      {"prompt", "conversations", "messages", "instruction", "question", "query", "input"});
}

bool is_instruction(const std::string& column) {
  return column == "instruction" || column == "question" || column == "query" || column == "input";
}

bool pair_is_chat(const Json& row, bool has_chat_template) {
  const auto pair = pair_columns(row);
  const std::string prompt = prompt_column(row);
  if (pair && (is_messages(row.at(pair->chosen)) || is_messages(row.at(pair->rejected)))) return true;
  if (prompt.empty()) return false;
  return is_messages(row.at(prompt)) || (is_instruction(prompt) && has_chat_template);
}

// Where two texts part, never inside a character. A blank before that place belongs to the answers (as in
// TRL), and where one text is the whole of the other its last character does.
size_t text_divergence(const std::string& a, const std::string& b) {
  const size_t shorter = std::min(a.size(), b.size());
  const auto inside = [](const std::string& text, size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  size_t at = static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(shorter), b.begin()).first -
      a.begin());
  const bool differ = at < shorter;
  if (!differ && at > 0) --at;
  while (at > 0 && (inside(a, at) || inside(b, at))) --at;
  if (differ && at > 0 && a[at - 1] == ' ') --at;
  return at;
}

// A prompt that both answers begin with (TRL's extract_prompt).
void extract_prompt(PreferenceRow& row, bool chat) {
  if (!chat) {
    const size_t at = text_divergence(row.chosen.text, row.rejected.text);
    row.prompt.text = row.chosen.text.substr(0, at);
    row.chosen.text.erase(0, at);
    row.rejected.text.erase(0, at);
    return;
  }
  auto &chosen = row.chosen.messages, &rejected = row.rejected.messages;
  const size_t shorter = std::min(chosen.size(), rejected.size());
  size_t at = 0;
  while (at + 1 < shorter && chosen[at] == rejected[at]) ++at;
  const auto end = static_cast<std::ptrdiff_t>(at);
  row.prompt.messages.assign(chosen.begin(), chosen.begin() + end);
  chosen.erase(chosen.begin(), chosen.begin() + end);
  rejected.erase(rejected.begin(), rejected.begin() + end);
}

Passage answer_of(const Json& row, const std::string& column, const DatasetShape& shape,
                  const std::string& where) {
  Passage answer;
  if (!shape.chat) {
    answer.text = text_column(row, column, where);
    return answer;
  }
  answer.messages = messages_or_text(row, column, "assistant", shape, where);
  remove_weights(answer.messages);
  return answer;
}

void check_answers(const PreferenceRow& pair, bool chat, const std::string& where) {
  const auto empty = [&](const Passage& p) { return chat ? p.messages.empty() : p.text.empty(); };
  if (empty(pair.chosen) && empty(pair.rejected))
    fail("{}: neither answer holds anything; expected one that is chosen and one that is rejected", where);
}

TrainingRow read_preference(const Json& row, const DatasetShape& shape, const std::string& where) {
  const PairColumns columns = pair_columns(row).value_or(PairColumns{"chosen", "rejected"});
  PreferenceRow pair;
  pair.chosen = answer_of(row, columns.chosen, shape, where);
  pair.rejected = answer_of(row, columns.rejected, shape, where);
  std::string prompt = prompt_column(row);
  // Some files repeat the prompt as text beside answers that are whole conversations.
  const bool whole = shape.chat && pair.chosen.messages.size() > 1 && !prompt.empty() &&
                     row.at(prompt).is_string() && is_messages(row.at(columns.chosen));
  if (whole) prompt.clear();
  if (prompt.empty()) {
    extract_prompt(pair, shape.chat);
  } else if (is_instruction(prompt) && !is_messages(row.at(prompt))) {
    const bool has_input = prompt == "instruction";
    const std::string system = first_column(row, {"system", "system_prompt"});
    pair.prompt = instruction_passage(
        {text_column(row, prompt, where), has_input ? optional_text_column(row, "input", where) : "",
         system.empty() ? "" : text_column(row, system, where)},
        shape.chat);
  } else if (shape.chat) {
    pair.prompt.messages = messages_or_text(row, prompt, "user", shape, where);
    add_system_message(row, pair.prompt.messages, where);
    remove_weights(pair.prompt.messages);
  } else {
    pair.prompt.text = text_column(row, prompt, where);
  }
  const auto score = [&](std::initializer_list<const char*> names) -> std::optional<double> {
    const std::string column = first_column(row, names);
    return column.empty() ? std::nullopt : optional_number_column(row, column, where);
  };
  pair.margin = optional_number_column(row, "margin", where);
  pair.chosen_score = score({"chosen_score", "score_chosen"});
  pair.rejected_score = score({"rejected_score", "score_rejected"});
  check_answers(pair, shape.chat, where);
  TrainingRow result;
  if (shape.chat) result.context = context_of_row(row, where);
  result.body = std::move(pair);
  return result;
}

// {"prompt", "answers": [{"answer", "rank"}]}: the best rank is the lowest number.
TrainingRow read_ranked(const Json& row, const DatasetShape& shape, const std::string& where) {
  struct Answer {
    double rank;
    const std::string* text;
  };
  std::vector<Answer> answers;
  for (const Json& answer : list_column(row, "answers", where)) {
    if (!answer.is_object()) fail("{}: 'answers' must hold objects with answer and rank", where);
    const auto rank = optional_number_column(answer, "rank", where);
    if (!rank) fail("{}: an entry of 'answers' has no 'rank'", where);
    answers.push_back({*rank, &text_column(answer, "answer", where)});
  }
  const auto [best, worst] = std::minmax_element(
      answers.begin(), answers.end(), [](const Answer& a, const Answer& b) { return a.rank < b.rank; });
  if (answers.empty() || best->rank == worst->rank)
    fail("{}: 'answers' must hold at least two answers of different rank", where);
  PreferenceRow pair;
  const std::string prompt = first_column(row, {"prompt", "question", "instruction"});
  pair.prompt = instruction_passage({text_column(row, prompt.empty() ? "prompt" : prompt, where), "",
                                     optional_text_column(row, "system", where)},
                                    shape.chat);
  pair.chosen = answer_passage(*best->text, shape.chat);
  pair.rejected = answer_passage(*worst->text, shape.chat);
  TrainingRow result;
  result.body = std::move(pair);
  return result;
}

TrainingRow read_openai(const Json& row, const DatasetShape& shape, const std::string& where) {
  const Json& input = column_of(row, "input", where);
  if (!input.is_object())
    fail("{}: 'input' must be an object with messages but is {}", where, input.type_name());
  PreferenceRow pair;
  pair.prompt.messages = messages_of_column(input, "messages", shape, where);
  pair.chosen.messages = messages_of_column(row, "preferred_output", shape, where);
  pair.rejected.messages = messages_of_column(row, "non_preferred_output", shape, where);
  for (Passage* passage : {&pair.prompt, &pair.chosen, &pair.rejected}) remove_weights(passage->messages);
  TrainingRow result;
  result.context = context_of_row(input, where);
  result.body = std::move(pair);
  return result;
}

}  // namespace

const ShapeFamily kPreferenceShape = {
    .name = "preference",
    .aliases = {"dpo", "ranking", "pairwise", "orpo", "reward"},
    .columns = "[prompt] + chosen + rejected",
    .kind = RowKind::preference,
    .rank = 1,
    .matches = [](const Json& row) { return pair_columns(row).has_value(); },
    .is_chat = pair_is_chat,
    .meaning =
        [](const Json& row, const DatasetShape& s) {
          const auto pair = pair_columns(row);
          const std::string prompt = prompt_column(row);
          return fmt::format("preference pairs ({}{}, {}{})", prompt.empty() ? "" : prompt + ", ",
                             pair ? pair->chosen : "chosen", pair ? pair->rejected : "rejected",
                             s.chat ? "; as messages" : "; as plain text");
        },
    .used =
        [](const Json& row, const DatasetShape&) {
          const PairColumns pair = pair_columns(row).value_or(PairColumns{"chosen", "rejected"});
          std::vector<std::string> used = {
              pair.chosen, pair.rejected,  prompt_column(row), "system",       "system_prompt",
              "margin",    "chosen_score", "rejected_score",   "score_chosen", "score_rejected"};
          if (row.contains("instruction")) used.push_back("input");
          used.insert(used.end(), std::begin(kContextColumns), std::end(kContextColumns));
          return used;
        },
    .read = read_preference};

const ShapeFamily kRankedShape = {
    .name = "ranked",
    .aliases = {"nectar"},
    .columns = "prompt + answers [{answer, rank}]",
    .kind = RowKind::preference,
    .rank = 1,
    .matches =
        [](const Json& row) {
          const Json* answers = row.find("answers");
          return answers != nullptr && is_messages(*answers) && answers->is_array() &&
                 answers->as_array()[0].contains("rank");
        },
    .is_chat = [](const Json&, bool has_chat_template) { return has_chat_template; },
    .meaning = [](const Json&,
                  const DatasetShape&) { return std::string("ranked answers (best against worst)"); },
    .used =
        [](const Json&, const DatasetShape&) {
          return std::vector<std::string>{"prompt", "question", "instruction", "answers", "system"};
        },
    .read = read_ranked};

const ShapeFamily kOpenAiPreferenceShape = {
    .name = "openai_preference",
    .aliases = {"openai_dpo"},
    .columns = "input {messages} + preferred_output + non_preferred_output",
    .kind = RowKind::preference,
    .rank = 0,
    .matches =
        [](const Json& row) {
          return row.contains("preferred_output") && row.contains("non_preferred_output");
        },
    .is_chat = [](const Json&, bool) { return true; },
    .meaning = [](const Json&, const DatasetShape&) { return std::string("OpenAI preference pairs"); },
    .used =
        [](const Json&, const DatasetShape&) {
          return std::vector<std::string>{"input", "preferred_output", "non_preferred_output"};
        },
    .read = read_openai};

}  // namespace serval
