#include "data/shapes/instructions.h"

#include "base/error.h"
#include "base/text.h"
#include "data/shapes/columns.h"
#include "data/shapes/messages.h"
#include "data/shapes/shape_family.h"

namespace serval {

std::string alpaca_prompt(const Instruction& i) {
  // The wording is a format: models tuned on Alpaca data expect these bytes.
  std::string head =
      i.input.empty() ? "Below is an instruction that describes a task. Write a response that appropriately "
                        "completes the request."
                      : "Below is an instruction that describes a task, paired with an input that provides "
                        "further context. Write a response that appropriately completes the request.";
  if (!i.system.empty()) head = i.system;
  std::string prompt = head + "\n\n### Instruction:\n" + i.instruction;
  if (!i.input.empty()) prompt += "\n\n### Input:\n" + i.input;
  return prompt + "\n\n### Response:\n";
}

Json::Array instruction_messages(const Instruction& i) {
  Json::Array messages;
  if (!i.system.empty()) messages.push_back(make_message("system", i.system));
  messages.push_back(make_message("user", i.input.empty() ? i.instruction : i.instruction + "\n" + i.input));
  return messages;
}

Passage instruction_passage(const Instruction& instruction, bool chat) {
  Passage passage;
  if (chat)
    passage.messages = instruction_messages(instruction);
  else
    passage.text = alpaca_prompt(instruction);
  return passage;
}

Passage answer_passage(std::string answer, bool chat) {
  Passage passage;
  if (chat)
    passage.messages = {make_message("assistant", std::move(answer))};
  else
    passage.text = std::move(answer);
  return passage;
}

namespace {

bool chat_where_template(const Json&, bool has_chat_template) {
  return has_chat_template;
}

std::string meaning_of(const DatasetShape& shape, const std::string& what) {
  return shape.chat ? what + ", turned into messages for the model's chat template"
                    : what + ", in the Alpaca prompt format (the model has no chat template)";
}

// [[question, answer], ...]: answers are trained like the row's own (LLaMA-Factory), so they carry a weight.
void add_history(const Json& row, const DatasetShape& shape, Json::Array& messages,
                 const std::string& where) {
  if (!has_column(row, "history")) return;
  const Json::Array& turns = list_column(row, "history", where);
  if (turns.empty()) return;
  if (!shape.chat)
    fail("{}: 'history' needs a model with a chat template; remove the column or add the template", where);
  Json::Array before;
  for (const Json& turn : turns) {
    const bool pair = turn.is_array() && turn.size() == 2 && turn.as_array()[0].is_string() &&
                      turn.as_array()[1].is_string();
    if (!pair) fail("{}: an entry of 'history' must be [question, answer], two texts", where);
    before.push_back(make_message("user", turn.as_array()[0].as_string()));
    before.push_back(make_message("assistant", turn.as_array()[1].as_string()));
    before.back().set("weight", Json(1));
  }
  const auto at = messages.begin() + (messages[0].at("role") == Json("system") ? 1 : 0);
  messages.insert(at, before.begin(), before.end());
}

TrainingRow read_alpaca(const Json& row, const DatasetShape& shape, const std::string& where) {
  const Instruction instruction{text_column(row, "instruction", where),
                                optional_text_column(row, "input", where),
                                optional_text_column(row, "system", where)};
  const char* answer = row.contains("output") ? "output" : row.contains("response") ? "response" : "output";
  PromptCompletionRow pair;
  pair.prompt = instruction_passage(instruction, shape.chat);
  pair.completion = answer_passage(text_column(row, answer, where), shape.chat);
  add_history(row, shape, pair.prompt.messages, where);
  TrainingRow result;
  if (shape.chat) result.context = context_of_row(row, where);
  result.body = std::move(pair);
  return result;
}

constexpr std::pair<const char*, const char*> kQuestionAnswer[] = {
    {"question", "answer"}, {"question", "response"}, {"prompt", "response"},       {"query", "response"},
    {"input", "output"},    {"query", "answer"},      {"instruction", "completion"}};

std::pair<std::string, std::string> question_answer(const Json& row) {
  for (const auto& [question, answer] : kQuestionAnswer) {
    const Json *q = row.find(question), *a = row.find(answer);
    if (q != nullptr && a != nullptr && q->is_string() && a->is_string()) return {question, answer};
  }
  return {"question", "answer"};
}

TrainingRow read_question_answer(const Json& row, const DatasetShape& shape, const std::string& where) {
  const auto [question, answer] = question_answer(row);
  const std::string system = first_column(row, {"system", "system_prompt"});
  const Instruction instruction{text_column(row, question, where), "",
                                system.empty() ? "" : text_column(row, system, where)};
  PromptCompletionRow pair;
  pair.prompt = instruction_passage(instruction, shape.chat);
  pair.completion = answer_passage(text_column(row, answer, where), shape.chat);
  TrainingRow result;
  result.body = std::move(pair);
  return result;
}

TrainingRow read_seed_task(const Json& row, const DatasetShape& shape, const std::string& where) {
  const Json::Array& instances = list_column(row, "instances", where);
  if (instances.size() != 1 || !instances[0].is_object())
    fail("{}: 'instances' must hold one {{input, output}} but holds {}; write each as a row of its own",
         where, instances.size());
  Json one = instances[0];
  one.set("instruction", column_of(row, "instruction", where));
  return read_alpaca(one, shape, where);
}

}  // namespace

const ShapeFamily kAlpacaShape = {
    .name = "alpaca",
    .aliases = {"instruction"},
    .columns = "instruction + [input] + output",
    .kind = RowKind::prompt_completion,
    .rank = 3,
    .matches =
        [](const Json& row) {
          return row.contains("instruction") && (row.contains("output") || row.contains("response"));
        },
    .is_chat = chat_where_template,
    .meaning = [](const Json&, const DatasetShape& s) { return meaning_of(s, "Alpaca rows"); },
    .used =
        [](const Json&, const DatasetShape& s) {
          std::vector<std::string> used = {"instruction", "input", "output", "response", "system", "history"};
          if (s.chat) used.insert(used.end(), std::begin(kContextColumns), std::end(kContextColumns));
          return used;
        },
    .read = read_alpaca};

const ShapeFamily kQuestionAnswerShape = {
    .name = "question_answer",
    .aliases = {"qa", "query_response"},
    .columns = "question + answer (or prompt + response, query + response, input + output)",
    .kind = RowKind::prompt_completion,
    .rank = 4,
    .matches =
        [](const Json& row) {
          const auto [question, answer] = question_answer(row);
          return row.contains(question) && row.contains(answer);
        },
    .is_chat = chat_where_template,
    .meaning =
        [](const Json& row, const DatasetShape& s) {
          const auto [question, answer] = question_answer(row);
          return meaning_of(s, fmt::format("{}s and {}s", question, answer));
        },
    .used =
        [](const Json& row, const DatasetShape&) {
          const auto [question, answer] = question_answer(row);
          return std::vector<std::string>{question, answer, "system", "system_prompt"};
        },
    .read = read_question_answer};

const ShapeFamily kSeedTasksShape = {
    .name = "seed_tasks",
    .aliases = {},
    .columns = "instruction + instances [{input, output}]",
    .kind = RowKind::prompt_completion,
    .rank = 2,
    .matches = [](const Json& row) { return row.contains("instruction") && has_column(row, "instances"); },
    .is_chat = chat_where_template,
    .meaning = [](const Json&, const DatasetShape& s) { return meaning_of(s, "Alpaca seed tasks"); },
    .used =
        [](const Json&, const DatasetShape&) {
          return std::vector<std::string>{"instruction", "instances"};
        },
    .read = read_seed_task};

}  // namespace serval
