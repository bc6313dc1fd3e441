#include <iostream>
#include <string>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/conversation.h"

namespace serval {
namespace {

Json message(const char* role, const std::string& content) {
  Json json = Json::object();
  json.set("role", Json(role));
  json.set("content", Json(content));
  return json;
}

}  // namespace

int run_chat(const Arguments& arguments) {
  const Settings& s = arguments.settings;
  Conversationalist model(s);
  Json begin = Json::array();
  if (s.has("system")) begin.push_back(message("system", s.text("system")));
  Json messages = begin;
  model.render(Json(Json::Array{message("user", "Hello")}));  // a missing template is said at once
  model.load();
  log_info("a line is a message; /new begins again, /quit or end of input leaves");
  std::string line;
  while (true) {
    if (stderr_is_terminal()) std::cerr << "> " << std::flush;
    if (!std::getline(std::cin, line) || line == "/quit") break;
    if (line == "/new") {
      messages = begin;
      continue;
    }
    if (line.empty()) continue;
    messages.push_back(message("user", line));
    const std::string answer = model.answer(model.render(messages), false,
                                            [](std::string_view text) { print_result(std::string(text)); });
    print_result("\n");
    messages.push_back(message("assistant", answer));
  }
  return 0;
}

}  // namespace serval
