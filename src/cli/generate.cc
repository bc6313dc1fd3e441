#include <algorithm>
#include <map>
#include <vector>

#include "base/error.h"
#include "base/log.h"
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

// One line for each conversation, in the order of the file: its last message is what a right answer would be.
void answer_file(Conversationalist& model, const std::string& path, int64_t batch_size) {
  const auto rows = open_dataset(path);
  std::vector<Json> lines;
  std::vector<std::vector<int32_t>> prompts;
  size_t longest = 1;
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
    lines.push_back(std::move(line));
    prompts.push_back(model.encode(model.render(Json(asked)), false));
    longest = std::max(longest, prompts.back().size());
  }
  const auto count = static_cast<int64_t>(prompts.size());
  const int64_t sequences = std::clamp<int64_t>(count, 1, batch_size);
  log_info("{} prompts, {} at a time (batch_size)", count, sequences);
  model.load(sequences, static_cast<int64_t>(longest));
  // Answers that are complete wait for those before them.
  std::map<size_t, std::string> complete;
  size_t next = 0;
  model.answer_all(prompts, [&](size_t prompt, const std::string& answer) {
    complete.emplace(prompt, answer);
    for (; !complete.empty() && complete.begin()->first == next; ++next) {
      lines[next].set("answer", Json(complete.begin()->second));
      print_result(lines[next].dump() + "\n");
      complete.erase(complete.begin());
    }
  });
}

}  // namespace

int run_generate(const Arguments& arguments) {
  const Settings& s = arguments.settings;
  const std::string prompts = s.text_or("prompts", "");
  if (prompts.empty() == !s.has("prompt")) fail_usage("give either --prompt TEXT or --prompts FILE.jsonl");
  if (s.flag("raw") && s.has("system")) fail_usage("--raw has no conversation, so --system has no place");
  Conversationalist model(s);
  if (!prompts.empty()) {
    answer_file(model, prompts, s.integer_or("batch_size", model.on_gpu() ? 32 : 1));
    return 0;
  }
  model.load();
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
