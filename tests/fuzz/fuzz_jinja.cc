// Any text as a chat template: it parses and renders a fixed conversation, or ends in one UserError.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/jinja/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace serval;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  if (!jinja::is_valid_utf8(source)) return 0;
  static const Json conversation = Json::parse(
      R"({"s": "Grüße a,b", "n": 7, "f": 2.5, "d": {"a": [1, {"b": null}], "c": true}, "l": [3, 1, 2],
          "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]})",
      "conversation");
  jinja::Limits limits;
  limits.work = 20'000;
  limits.memory_bytes = 4 << 20;
  limits.output_bytes = 1 << 20;
  limits.nesting = 200;
  jinja::Meter meter(limits);
  const jinja::MeterScope scope(meter);
  try {
    const auto program = jinja::parse_template(source, limits);
    jinja::Interpreter::Variables variables;
    for (const auto& [name, value] : conversation.as_object())
      variables.emplace_back(name, jinja::Value::from_json(value));
    jinja::Interpreter interpreter(*program, variables, 0);
    jinja::Output output;
    interpreter.run(output);
  } catch (const jinja::TemplateError&) {
    return 0;
  }
  return 0;
}
