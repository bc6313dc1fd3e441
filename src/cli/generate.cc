#include "base/error.h"
#include "cli/cli.h"
#include "cli/conversation.h"
#include "data/dataset.h"

namespace serval {
namespace {

Json message(const char* role, const std::string& content) {
  Json json = Json::object();
  json.set("role", Json(role));
  json.set("content", Json(content));
  return json;
}

// One line for each conversation: its last message is what a right answer would be.
void answer_file(Conversationalist& model, const std::string& path) {
  const auto rows = open_dataset(path);
  for (int64_t i = 0; i < rows->size(); ++i) {
    const Json row = rows->row(i);
    const Json* messages = row.find("messages");
    if (messages == nullptr || !messages->is_array() || messages->size() < 2)
      fail("{}: expected \"messages\" with a question and its answer", rows->where(i));
    Json::Array asked = messages->as_array();
    const Json expected = asked.back().at("content");
    asked.pop_back();
    Json line = Json::object();
    line.set("prompt", asked.back().at("content"));
    line.set("expected", expected);
    line.set("answer", Json(model.answer(model.render(Json(asked)), false, [](std::string_view) {})));
    print_result(line.dump() + "\n");
  }
}

}  // namespace

int run_generate(const Arguments& arguments) {
  const Settings& s = arguments.settings;
  const std::string prompts = s.text_or("prompts", "");
  if (prompts.empty() == !s.has("prompt")) fail_usage("give either --prompt TEXT or --prompts FILE.jsonl");
  if (s.flag("raw") && s.has("system")) fail_usage("--raw has no conversation, so --system has no place");
  Conversationalist model(s);
  if (!prompts.empty()) {
    answer_file(model, prompts);
    return 0;
  }
  const auto show = [](std::string_view text) { print_result(std::string(text)); };
  if (s.flag("raw")) {
    model.answer(s.text("prompt"), true, show);
  } else {
    Json messages = Json::array();
    if (s.has("system")) messages.push_back(message("system", s.text("system")));
    messages.push_back(message("user", s.text("prompt")));
    model.answer(model.render(messages), false, show);
  }
  print_result("\n");
  return 0;
}

}  // namespace serval
