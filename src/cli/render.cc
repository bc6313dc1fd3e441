// serval render: conversations, one JSON object a line, through a chat template; the result of each is one
// line.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/cli.h"
#include "text/chat_spans.h"
#include "text/template_library.h"
#include "text/template_set.h"

namespace serval {
namespace {

struct Job {
  std::optional<TemplateSet> templates;
  std::string template_error, name;
  RenderOptions render;
  bool spans = false;
  std::vector<std::string> roles;
};

Json error_line(const std::string& message) {
  Json json = Json::object();
  json.set("error", Json(message));
  return json;
}

bool has_tools(const Json& row) {
  const Json* tools = row.find("tools");
  return tools != nullptr && !tools->is_null();
}

// A row may ask by itself for what the options ask for all rows.
RenderOptions options_of(Json& row, const RenderOptions& given) {
  RenderOptions options = given;
  if (const Json* prompt = row.find("add_generation_prompt"); prompt != nullptr && prompt->is_bool())
    options.add_generation_prompt = options.add_generation_prompt || prompt->as_bool();
  if (const Json* key = row.find("continue_final_message"); key != nullptr) {
    if (key->is_string()) options.continue_final_message = key->as_string();
    if (key->is_bool() && key->as_bool()) options.continue_final_message = "content";
    row.erase("continue_final_message");
  }
  return options;
}

Json render_row(const Job& job, const std::string& line, const std::string& where) {
  Json row = Json::parse(line, where);
  if (!row.is_object())
    fail("{}: the row is {}, expected an object with \"messages\"", where, row.type_name());
  if (const Json* messages = row.find("messages"); messages == nullptr || !messages->is_array())
    fail("{}: the row has no list \"messages\"", where);
  const RenderOptions options = options_of(row, job.render);
  const ChatTemplate& chat = job.templates->choose(job.name, has_tools(row));
  if (!job.spans) return Json(chat.render(row, options).text);
  SpanOptions span_options;
  span_options.roles = job.roles;
  span_options.render = options;
  const AssistantSpans found = find_assistant_spans(chat, row, span_options);
  Json spans = Json::array(), messages = Json::array();
  for (const MessageSpan& s : found.spans) {
    spans.push_back(Json(Json::Array{Json(s.text.begin), Json(s.text.end)}));
    messages.push_back(Json(s.message));
  }
  Json result = Json::object();
  result.set("text", Json(found.text));
  result.set("spans", std::move(spans));
  result.set("messages", std::move(messages));
  return result;
}

std::string answer(const Job& job, const std::string& line, const std::string& where) {
  if (!job.template_error.empty()) return error_line(job.template_error).dump() + "\n";
  try {
    return render_row(job, line, where).dump() + "\n";
  } catch (const UserError& error) {
    return error_line(error.what()).dump() + "\n";
  }
}

void load_templates(Job& job, const Settings& s) {
  const std::string directory = s.text_or("tokenizer", "");
  const std::string file = s.text_or("template", "");
  if (directory.empty() && file.empty())
    fail_usage("--tokenizer or --template is missing: the directory of a tokenizer, or a chat template");
  if (!directory.empty() && !directory_exists(directory)) fail("{}: no such directory", directory);
  if (!file.empty() && !job.name.empty())
    fail_usage("--template-name chooses among the templates of --tokenizer");
  if (file.empty())
    job.templates = TemplateSet::from_directory(directory);
  else
    job.templates.emplace(open_chat_template(file, directory));
}

}  // namespace

int run_render(const Arguments& arguments) {
  const Settings& s = arguments.settings;
  set_num_threads(static_cast<int>(s.integer_or("num_threads", 0)));
  Job job;
  job.name = s.text_or("template_name", "");
  job.spans = s.flag("spans");
  job.roles = s.texts("roles");
  job.render.add_generation_prompt = s.flag("add_generation_prompt");
  job.render.continue_final_message = s.text_or("continue_final_message", "");
  if (job.render.add_generation_prompt && !job.render.continue_final_message.empty())
    fail_usage("--continue-final-message and --add-generation-prompt exclude each other");
  if (s.has("now")) job.render.now = s.integer("now");
  const std::string path = s.text("conversations");
  std::ifstream file;
  if (path != "-") {
    if (directory_exists(path)) fail("{}: is a directory, expected a JSONL file", path);
    file.open(path);
    if (!file) fail("{}: cannot be read", path);
  }
  std::istream& input = path == "-" ? std::cin : file;
  try {
    load_templates(job, s);
  } catch (const UsageError&) {
    throw;
  } catch (const UserError& error) {
    job.template_error = error.what();
  }
  constexpr size_t kWindow = 256;
  std::vector<std::pair<int64_t, std::string>> lines;
  std::vector<std::string> answers;
  std::string line;
  for (int64_t number = 1, more = 1; more != 0;) {
    lines.clear();
    while (lines.size() < kWindow && (more = std::getline(input, line) ? 1 : 0) != 0) {
      if (!trim(line).empty()) lines.emplace_back(number, line);
      number++;
    }
    answers.assign(lines.size(), {});
    parallel_for(0, static_cast<int64_t>(lines.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto& [at, text] = lines[static_cast<size_t>(i)];
        answers[static_cast<size_t>(i)] = answer(job, text, fmt::format("{}:{}", path, at));
      }
    });
    std::string joined;
    for (const std::string& text : answers) joined += text;
    print_result(joined);
  }
  // Each row has its line, and the template itself is at fault.
  if (!job.template_error.empty()) fail("{}", job.template_error);
  return 0;
}

}  // namespace serval
