// For the scripts that compare the template engine with jinja2: each line of the input is
//
//   {"template": "...", "now": 1750000000, "contexts": [{...}, ...]}
//
// and gives one line, a list with {"text": "..."} or {"error": "..."} for each context.
#include <cstdio>
#include <iostream>

#include "base/error.h"
#include "text/chat_template.h"

namespace {

using namespace serval;

Json entry(const char* key, std::string text) {
  Json json = Json::object();
  json.set(key, Json(std::move(text)));
  return json;
}

Json answers(const Json& request) {
  Json results = Json::array();
  RenderOptions options;
  options.now = request.at("now").as_int();
  const auto& contexts = request.at("contexts").as_array();
  try {
    const ChatTemplate chat(request.at("template").as_string(), Json(), "template");
    for (const Json& context : contexts) {
      try {
        results.push_back(entry("text", chat.render(context, options).text));
      } catch (const UserError& error) {
        results.push_back(entry("error", error.what()));
      }
    }
  } catch (const UserError& error) {
    for (size_t i = 0; i < contexts.size(); i++) results.push_back(entry("error", error.what()));
  }
  return results;
}

}  // namespace

int main() {
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); number++)
    std::cout << answers(Json::parse(line, fmt::format("line {}", number))).dump() << '\n' << std::flush;
}
