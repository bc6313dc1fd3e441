// Any JSON as the values of templates that use all filters, tests and formats: each renders, or ends in one
// error. The first byte picks the template, the rest is the JSON; messages are also searched for their spans.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/chat_spans.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace {

constexpr std::array<std::string_view, 14> kTemplates = {
    "{{ v }}{{ v | tojson(indent=2) }}{{ v | tojson(ensure_ascii=true, sort_keys=true) }}{{ v | pprint }}",
    "{{ v | string | urlize(9) }}{{ v | striptags }}{{ v | string | wordwrap(5) }}{{ v | urlencode }}",
    "{{ v | dictsort }}{{ v | items | list }}{% for k, x in v.items() %}{{ k }}{{ x }}{% endfor %}",
    "{{ v | sort }}{{ v | unique | list }}{{ v | groupby('a') }}{{ v | map(attribute='a') | list }}",
    "{{ v | batch(2, v) | list }}{{ v | slice(3, v) | list }}{{ v | sum }}{{ v | max }}{{ v | join(v) }}",
    "{{ v % v }}{{ '%s %r %5d %x %e' % (v, v, v, v, v) }}",
    "{{ v.format(v, a=v) }}{{ '{0!r:>5} {0[a]} {0.b}'.format(v) }}",
    "{{ v[::-1] }}{{ v[v] }}{{ v[1:] }}{{ v.a.b }}{{ v + v }}{{ v * 3 }}{{ v ~ v }}",
    "{{ v | int }}{{ v | float }}{{ v | round(2) }}{{ v | abs }}{{ v | filesizeformat }}{{ v // 7 }}{{ v ** "
    "3 }}",
    "{{ v.upper() }}{{ v.title() }}{{ v.split() }}{{ v.replace('a', v) }}{{ v.center(9) }}{{ v.casefold() }}",
    "{{ v | xmlattr }}{{ v | e }}{{ v | truncate(3) }}{{ v | indent(v) }}{{ v | center(v) }}{{ v | trim(v) "
    "}}",
    "{% for m in v recursive %}{{ loop.index }}{{ m }}{{ loop(m) }}{% endfor %}",
    "{{ v is lower }}{{ v is even }}{{ v is in v }}{{ v == v }}{{ v < v }}{{ v is divisibleby v }}{{ v in "
    "[v] }}",
    "{{ strftime_now(v) }}{{ v | attr(v) }}{{ range(v) }}{{ dict(v) }}{{ namespace(v) }}{{ cycler(*v).next() "
    "}}",
};

constexpr std::string_view kChat =
    "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content and loop.last %}{{ m.reasoning_content }}"
    "{% endif %}{{ m.content | trim }}{{ m.tool_calls | tojson if m.tool_calls }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

void render(std::string_view source, const serval::Json& value) {
  using namespace serval;
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
    variables.emplace_back("v", jinja::Value::from_json(value));
    jinja::Interpreter interpreter(*program, variables, 0);
    jinja::Output output;
    interpreter.run(output);
  } catch (const jinja::TemplateError&) {
    return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace serval;
  if (size < 2) return 0;
  Json value;
  try {
    value = Json::parse(std::string_view(reinterpret_cast<const char*>(data) + 1, size - 1), "value");
  } catch (const UserError&) {
    return 0;
  }
  render(kTemplates[data[0] % kTemplates.size()], value);
  if (!value.is_object() || size > 2000) return 0;
  static const ChatTemplate chat(kChat, Json::object(), "chat");
  try {
    const AssistantSpans spans = find_assistant_spans(chat, value);
    for (const MessageSpan& s : spans.spans)
      if (s.text.begin < 0 || s.text.end > static_cast<int64_t>(spans.text.size())) __builtin_trap();
  } catch (const UserError&) {
    return 0;
  }
  return 0;
}
