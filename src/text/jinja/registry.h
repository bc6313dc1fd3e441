// The tables of filters and tests by name.
#pragma once
#include <span>
#include <string_view>

#include "text/jinja/value.h"

namespace serval::jinja {

struct FilterEntry {
  std::string_view name;
  Value (*run)(Interpreter&, const Value& input, const Arguments&);
};

struct TestEntry {
  std::string_view name;
  bool (*run)(Interpreter&, const Value& input, const Arguments&);
};

// nullptr where there is none.
const FilterEntry* find_filter(std::string_view name);
const TestEntry* find_test(std::string_view name);

// Each file of filters has a table of its own.
std::span<const FilterEntry> html_filters();
std::span<const FilterEntry> layout_filters();
std::span<const FilterEntry> text_filters();
std::span<const FilterEntry> number_filters();
std::span<const FilterEntry> sequence_filters();

}  // namespace serval::jinja
