// Renders a template for the scripts in tests/reference: reads a JSON list of jobs
// {"template", "context", "add_generation_prompt", "now"} from the file named first and prints a JSON list of
// {"text", "spans"} or {"error"}.
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "text/chat_template.h"

namespace {

serval::Json render(const serval::Json& job) {
  serval::Json result = serval::Json::object();
  try {
    const serval::ChatTemplate chat(job.at("template").as_string(), serval::Json::object(), "template");
    serval::RenderOptions options;
    if (const serval::Json* flag = job.find("add_generation_prompt"))
      options.add_generation_prompt = flag->as_bool();
    if (const serval::Json* now = job.find("now")) options.now = now->as_int();
    const serval::RenderedChat rendered = chat.render(job.at("context"), options);
    serval::Json spans = serval::Json::array();
    for (const serval::TextSpan& span : rendered.generated)
      spans.push_back(serval::Json::Array{serval::Json(span.begin), serval::Json(span.end)});
    result.set("text", rendered.text);
    result.set("spans", spans);
  } catch (const serval::UserError& error) {
    result.set("error", std::string(error.what()));
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: render_tool JOBS.json\n");
    return 2;
  }
  try {
    const serval::Json jobs = serval::Json::parse(serval::read_file(argv[1]), argv[1]);
    serval::Json results = serval::Json::array();
    for (const serval::Json& job : jobs.as_array()) results.push_back(render(job));
    std::printf("%s\n", results.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
