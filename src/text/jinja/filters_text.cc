// Filters that make text, and those on single numbers.
#include <array>
#include <charconv>
#include <cmath>

#include "text/jinja/arguments.h"
#include "text/jinja/format.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/jinja/registry.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

// soft_str: what is no string is printed first; Markup stays Markup.
Value like(const Value& input, std::string text) {
  return input.is_markup() ? Value::markup(std::move(text)) : Value(std::move(text));
}

template <std::string (*Change)(std::string_view)>
Value changed(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("filter", arguments, {}, 0);
  return like(input, Change(to_text(input)));
}

Value string(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("string", arguments, {}, 0);
  return input.is_string() ? input : Value(to_text(input));
}

Value trim(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Value text = input.is_string() ? input : Value(to_text(input));
  // The method takes the same argument, and keeps generated ranges.
  return interpreter.call(interpreter.attribute(text, "strip"), arguments);
}

// Words start after blanks and opening brackets, unlike those of str.title.
Value title(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("title", arguments, {}, 0);
  const std::string text = to_text(input);
  spend(static_cast<int64_t>(text.size()) / 4);
  std::string out, word;
  const auto flush = [&] {
    if (word.empty()) return;
    size_t first = 0;
    next_code_point(word, first);
    out += to_upper(word.substr(0, first)) + to_lower(word.substr(first));
    word.clear();
  };
  for (const std::string_view c : code_points(text)) {
    size_t i = 0;
    const char32_t code = next_code_point(c, i);
    if (is_space(code) || (c.size() == 1 && std::string_view("-({[<").find(c[0]) != std::string_view::npos)) {
      flush();
      out += c;
    } else {
      word += c;
    }
  }
  flush();
  return like(input, std::move(out));
}

Value replace(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("replace", arguments, {"old", "new", "count"}, 2);
  const int64_t count = b.has(2) && !b.value(2).is_none() ? b.integer(2, -1) : -1;
  // As jinja2: text alone stays text, also where output is escaped.
  if (interpreter.autoescape() && (input.is_markup() || b.value(0).is_markup() || b.value(1).is_markup()))
    return Value::markup(replace_text(to_text(escaped(input)), to_text(escaped(b.value(0))),
                                      to_text(escaped(b.value(1))), count));
  return Value(replace_text(to_text(input), to_text(b.value(0)), to_text(b.value(1)), count));
}

Value center(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("center", arguments, {"width"}, 0);
  const Value text = input.is_string() ? input : Value(to_text(input));
  Arguments width;
  width.positional.emplace_back(b.integer(0, 80));
  return interpreter.call(interpreter.attribute(text, "center"), width);
}

Value indent(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("indent", arguments, {"width", "first", "blank"}, 0);
  const std::string& text = require_string(input, "the value to indent");
  spend(static_cast<int64_t>(text.size()) / 8);
  std::string blanks;
  if (b.value(0).is_string()) {
    blanks = b.value(0).text();
  } else {
    const int64_t width = std::max<int64_t>(b.integer(0, 4), 0);
    check_text_size(width, 1);
    blanks.assign(static_cast<size_t>(width), ' ');
  }
  const bool blank_lines = b.boolean(2, false);
  const std::string with_end = text + "\n";
  std::string out = b.boolean(1, false) ? blanks : "";
  bool first = true;
  for (const std::string_view line : split_lines(with_end, false)) {
    if (!first) {
      out += '\n';
      if (blank_lines || !line.empty()) out += blanks;
      check_text_size(static_cast<int64_t>(out.size()));
    }
    first = false;
    out += line;
  }
  return like(input, std::move(out));
}

Value truncate(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("truncate", arguments, {"length", "killwords", "end", "leeway"}, 0);
  const int64_t most = b.integer(0, 255);
  const int64_t leeway = b.has(3) && !b.value(3).is_none() ? b.integer(3, 5) : 5;
  const std::string end = b.text(2, "...", "end");
  const int64_t end_length = count_code_points(end);
  if (most < end_length) raise("expected length >= {}, got {}", end_length, most);
  if (leeway < 0) raise("expected leeway >= 0, got {}", leeway);
  const int64_t size = length(input);
  if (size <= most || size - most <= leeway) return input;
  const std::string text = require_string(input, "the value to truncate");
  std::string kept = text.substr(0, byte_offset(text, most - end_length));
  if (!b.boolean(1, false)) {
    const size_t blank = kept.rfind(' ');
    if (blank != std::string::npos) kept.resize(blank);
  }
  return like(input, kept + end);
}

Value wordcount(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("wordcount", arguments, {}, 0);
  const std::string text = to_text(input);
  spend(static_cast<int64_t>(text.size()) / 16);
  int64_t words = 0;
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    const bool is_word = c == '_' || is_alphanumeric(c);
    if (is_word && !in_word) words++;
    in_word = is_word;
  }
  return Value(words);
}

Value safe(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("safe", arguments, {}, 0);
  auto text = std::make_shared<String>(to_text(input), true);
  if (input.is_string()) text->generated = input.string().generated;
  return Value::string(std::move(text));
}

Value escape(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("escape", arguments, {}, 0);
  return escaped(input);
}

Value forceescape(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("forceescape", arguments, {}, 0);
  return Value::markup(escape_html(to_text(input)));
}

std::string quote_url(std::string_view text, bool for_query) {
  spend(static_cast<int64_t>(text.size()) / 2);
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos || (c == '/' && !for_query);
    if (plain)
      out += c;
    else if (c == ' ' && for_query)
      out += '+';
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

Value urlencode(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("urlencode", arguments, {}, 0);
  if (!input.is_dict() && !input.is_sequence() && !input.is_iterator())
    return Value(quote_url(to_text(input), false));
  std::string out;
  const auto add = [&](const Value& key, const Value& value) {
    if (!out.empty()) out += '&';
    out += quote_url(to_text(key), true) + "=" + quote_url(to_text(value), true);
    check_text_size(static_cast<int64_t>(out.size()));
  };
  if (input.is_dict()) {
    for (const auto& [key, value] : input.dict().entries) add(key, value);
    return Value(std::move(out));
  }
  for (const Value& pair : items_of(input)) {
    const std::vector<Value> parts = items_of(pair);
    if (parts.size() != 2) raise("urlencode needs pairs of key and value");
    add(parts[0], parts[1]);
  }
  return Value(std::move(out));
}

Value xmlattr(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("xmlattr", arguments, {"autospace"}, 0);
  if (!input.is_dict()) raise("'{}' object has no attribute 'items'", input.type_name());
  std::string out;
  for (const auto& [key, value] : input.dict().entries) {
    if (value.is_none() || value.is_undefined()) continue;
    const std::string name = require_string(key, "an attribute name");
    if (name.find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      raise("Invalid character in attribute name: {}", repr(key));
    if (!out.empty()) out += ' ';
    out += to_text(escaped(key)) + "=\"" + to_text(escaped(value)) + "\"";
    check_text_size(static_cast<int64_t>(out.size()));
  }
  if (b.boolean(0, true) && !out.empty()) out.insert(0, 1, ' ');
  return interpreter.autoescape() ? Value::markup(std::move(out)) : Value(std::move(out));
}

Value format(Interpreter&, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keyword.empty())
    raise("can't handle positional and keyword arguments at the same time");
  const Value text = input.is_string() ? input : Value(to_text(input));
  if (arguments.keyword.empty()) return like(text, format_percent(text, Value::tuple(arguments.positional)));
  auto fields = std::make_shared<Dict>();
  for (const auto& [name, value] : arguments.keyword) fields->set(Value(name), value);
  return like(text, format_percent(text, Value(std::move(fields))));
}

Value tojson(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  JsonStyle style;
  style.ensure_ascii = b.boolean(0, false);
  style.sort_keys = b.boolean(3, false);
  if (b.has(1) && !b.value(1).is_none()) {
    style.pretty = true;
    style.item_separator = ",";
    if (b.value(1).is_string()) {
      style.indent = b.value(1).text();
    } else {
      const int64_t width = std::max<int64_t>(b.integer(1, 0), 0);
      if (width > 1000) raise("tojson: indent is above 1000");
      style.indent.assign(static_cast<size_t>(width), ' ');
    }
  }
  if (b.has(2) && !b.value(2).is_none()) {
    const std::vector<Value> pair = items_of(b.value(2));
    if (pair.size() != 2) raise("tojson: separators must be two strings");
    style.item_separator = require_string(pair[0], "a separator");
    style.key_separator = require_string(pair[1], "a separator");
  }
  return Value(dump_json(input, style));
}

// ---- numbers ----

Value absolute(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("abs", arguments, {}, 0);
  if (input.is_undefined()) raise_undefined(input);
  if (!input.is_number()) raise("bad operand type for abs(): '{}'", input.type_name());
  if (input.is_real()) return Value(std::fabs(input.as_real()));
  return less(input, Value(int64_t{0})) ? negate(input) : posate(input);
}

// Python's int(text, base) and float(text): blanks around and single underscores inside are fine.
std::string clean_number(const std::string& text) {
  std::string out;
  const std::string_view body = strip(text, "", true, true);
  for (size_t i = 0; i < body.size();) {
    const size_t begin = i;
    const int digit = decimal_value(next_code_point(body, i));
    const bool between = body[begin] == '_' && begin > 0 && i < body.size() &&
                         std::isalnum(static_cast<unsigned char>(body[begin - 1])) != 0 &&
                         std::isalnum(static_cast<unsigned char>(body[i])) != 0;
    if (between) continue;
    if (digit >= 0)
      out += static_cast<char>('0' + digit);
    else
      out += body.substr(begin, i - begin);
  }
  return out;
}

std::optional<Value> parse_int(const std::string& text, int64_t base) {
  std::string digits = clean_number(text);
  bool negative = false;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
    negative = digits[0] == '-';
    digits.erase(0, 1);
  }
  if (digits.size() > 2 && digits[0] == '0') {
    const char kind = static_cast<char>(digits[1] | 0x20);
    const int64_t own = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (own != 0 && (base == own || base == 0)) {
      digits.erase(0, 2);
      base = own;
    }
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36 || digits.empty() || digits[0] == '+' || digits[0] == '-') return std::nullopt;
  if (negative) digits.insert(0, 1, '-');
  int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, value, static_cast<int>(base));
  if (result.ptr != end) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range)
    return Value::integer(BigInteger::from_digits(digits, static_cast<int>(base)));
  return result.ec == std::errc() ? std::optional(Value(value)) : std::nullopt;
}

std::optional<double> parse_real(const std::string& text) {
  std::string digits = to_lower(clean_number(text));
  double sign = 1;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
    sign = digits[0] == '-' ? -1 : 1;
    digits.erase(0, 1);
  }
  if (digits == "infinity") digits = "inf";
  if (digits.empty() || digits[0] == '+' || digits[0] == '-' || digits.find('(') != std::string::npos)
    return std::nullopt;
  double value = 0;
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, value);
  if (result.ec == std::errc::result_out_of_range) return sign * std::strtod(digits.c_str(), nullptr);
  return result.ec == std::errc() && result.ptr == end ? std::optional<double>(sign * value) : std::nullopt;
}

Value to_int(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("int", arguments, {"default", "base"}, 0);
  const Value otherwise = b.value(0, Value(int64_t{0}));
  if (input.is_undefined()) raise_undefined(input);
  if (input.is_whole()) return posate(input);
  if (input.is_real()) return std::isnan(input.as_real()) ? otherwise : whole_part(input.as_real());
  if (!input.is_string()) return otherwise;
  const std::optional<Value> number = parse_int(input.text(), b.integer(1, 10));
  if (number.has_value()) return *number;
  const std::optional<double> real = parse_real(input.text());
  return real.has_value() && std::isfinite(*real) ? whole_part(*real) : otherwise;
}

Value to_float(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("float", arguments, {"default"}, 0);
  const Value otherwise = b.value(0, Value(0.0));
  if (input.is_undefined()) raise_undefined(input);
  if (input.is_number()) return Value(input.as_real());
  if (!input.is_string()) return otherwise;
  const std::optional<double> real = parse_real(input.text());
  return real.has_value() ? Value(*real) : otherwise;
}

Value round(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("round", arguments, {"precision", "method"}, 0);
  const int64_t precision = b.integer(0, 0);
  const std::string method = b.text(1, "common", "method");
  if (method != "common" && method != "ceil" && method != "floor")
    raise("method must be common, ceil or floor");
  if (input.is_undefined()) raise_undefined(input);
  if (!input.is_number()) raise("type {} doesn't define __round__ method", input.type_name());
  if (method == "common") return round_half_even(input, precision);
  const Value scale = arithmetic(BinaryOp::power, Value(int64_t{10}), Value(precision));
  Value scaled = arithmetic(BinaryOp::multiply, input, scale);
  if (scaled.is_real())
    scaled = whole_part(method == "ceil" ? std::ceil(scaled.as_real()) : std::floor(scaled.as_real()));
  return arithmetic(BinaryOp::divide, scaled, scale);
}

Value filesizeformat(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("filesizeformat", arguments, {"binary"}, 0);
  const bool binary = b.boolean(0, false);
  std::optional<double> bytes;
  if (input.is_number()) bytes = input.as_real();
  if (input.is_string()) bytes = parse_real(input.text());
  if (!bytes.has_value()) raise("could not convert to float: {}", repr(input));
  const double base = binary ? 1024 : 1000;
  if (*bytes == 1) return Value("1 Byte");
  if (*bytes < base) return Value(to_text(whole_part(*bytes)) + " Bytes");
  double unit = base;
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  for (size_t i = 0; i < kPrefixes.size(); i++) {
    unit *= base;
    if (*bytes >= unit && i + 1 < kPrefixes.size()) continue;
    const char prefix = binary && kPrefixes[i] == 'k' ? 'K' : kPrefixes[i];
    return Value(fmt::format("{:.1f} {}{}", base * *bytes / unit, prefix, binary ? "iB" : "B"));
  }
  return {};
}

constexpr std::array kTextFilters = std::to_array<FilterEntry>({
    {"capitalize", changed<capitalize>},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"forceescape", forceescape},
    {"format", format},
    {"indent", indent},
    {"lower", changed<to_lower>},
    {"replace", replace},
    {"safe", safe},
    {"string", string},
    {"title", title},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", changed<to_upper>},
    {"urlencode", urlencode},
    {"wordcount", wordcount},
    {"xmlattr", xmlattr},
});

constexpr std::array kNumberFilters = std::to_array<FilterEntry>({
    {"abs", absolute},
    {"filesizeformat", filesizeformat},
    {"float", to_float},
    {"int", to_int},
    {"round", round},
});

}  // namespace

std::span<const FilterEntry> text_filters() {
  return kTextFilters;
}
std::span<const FilterEntry> number_filters() {
  return kNumberFilters;
}

}  // namespace serval::jinja
