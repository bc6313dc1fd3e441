// Template source to a Program, with jinja2's grammar and its messages.
#pragma once
#include <memory>
#include <string_view>

#include "text/jinja/ast.h"
#include "text/jinja/meter.h"

namespace serval::jinja {

// Raises TemplateError with its place.
std::shared_ptr<const Program> parse_template(std::string_view source, const Limits& limits);

// Whether there is a filter or a test of that name.
bool is_filter(std::string_view name);
bool is_test(std::string_view name);

}  // namespace serval::jinja
