#include "text/jinja/format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja/interpreter.h"
#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

constexpr int64_t kMostWidth = 10'000;

struct Spec {
  std::string fill = " ";
  char align = '\0';  // < > = ^
  char sign = '-';
  bool alternate = false, zero = false, has_sign = false;
  bool no_negative_zero = false;  // 'z'
  char grouping = '\0';
  int64_t width = 0, precision = -1;
  char type = '\0';
};

int64_t read_number(std::string_view text, size_t& i) {
  int64_t n = 0;
  while (i < text.size() && text[i] >= '0' && text[i] <= '9') {
    n = n * 10 + (text[i++] - '0');
    if (n > kMostWidth) raise("a width or precision in a format is above {}", kMostWidth);
  }
  return n;
}

std::string print_real(double value, char type, int64_t precision, bool alternate) {
  const bool upper = type == 'F' || type == 'E' || type == 'G';
  if (!std::isfinite(value)) {
    std::string name = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    return upper ? to_upper(name) : name;
  }
  std::array<char, 16> format{};
  std::snprintf(format.data(), format.size(), "%%%s.*%c", alternate ? "#" : "", type);
  std::array<char, 512> small{};
  const int digits = static_cast<int>(precision < 0 ? 6 : precision);
  // NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): the format was made above
  const int n = std::snprintf(small.data(), small.size(), format.data(), digits, value);
  if (n < static_cast<int>(small.size())) return std::string(small.data(), static_cast<size_t>(n));
  std::string large(static_cast<size_t>(n) + 1, '\0');
  // NOLINTNEXTLINE(clang-diagnostic-format-nonliteral)
  std::snprintf(large.data(), large.size(), format.data(), digits, value);
  large.pop_back();
  return large;
}

std::string print_magnitude(const Value& integer, int base, bool upper) {
  if (integer.is_big()) {
    std::string digits = integer.big().text(base, upper);
    return digits.substr(digits[0] == '-' ? 1 : 0);
  }
  const int64_t value = integer.as_int();
  uint64_t rest = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const std::string_view alphabet = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string digits;
  do {
    digits += alphabet[rest % static_cast<uint64_t>(base)];
    rest /= static_cast<uint64_t>(base);
  } while (rest != 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string group_digits(const std::string& digits, char separator, size_t every) {
  // Groups of four are of hexadecimal digits.
  const char* alphabet = every == 4 ? "0123456789abcdefABCDEF" : "0123456789";
  const size_t whole = std::min(digits.find_first_not_of(alphabet), digits.size());
  std::string out;
  for (size_t i = 0; i < whole; i++) {
    if (i > 0 && (whole - i) % every == 0) out += separator;
    out += digits[i];
  }
  return out + digits.substr(whole);
}

// Digits in groups, with zeros before them up to the width where the field is filled so.
std::string group_in_field(std::string digits, const std::string& head, const Spec& spec, size_t every) {
  std::string grouped = group_digits(digits, spec.grouping, every);
  const bool has_digits = !digits.empty() && std::isxdigit(static_cast<unsigned char>(digits[0])) != 0;
  if (spec.fill != "0" || spec.align != '=' || !has_digits) return grouped;
  while (static_cast<int64_t>(head.size() + grouped.size()) < spec.width) {
    digits.insert(0, 1, '0');
    grouped = group_digits(digits, spec.grouping, every);
  }
  return grouped;
}

// `text` in a field: sign and prefix come before the padding where the alignment is '='.
std::string pad(const std::string& head, const std::string& text, const Spec& spec, char default_align) {
  const int64_t missing = spec.width - count_code_points(head) - count_code_points(text);
  if (missing <= 0) return head + text;
  const auto fill = [&](int64_t n) {
    std::string out;
    for (int64_t i = 0; i < n; i++) out += spec.fill;
    return out;
  };
  switch (spec.align != '\0' ? spec.align : default_align) {
    case '<':
      return head + text + fill(missing);
    case '^':
      return fill(missing / 2) + head + text + fill(missing - missing / 2);
    case '=':
      return head + fill(missing) + text;
    default:
      return fill(missing) + head + text;
  }
}

std::string sign_text(bool negative, char sign) {
  if (negative) return "-";
  return sign == '+' ? "+" : sign == ' ' ? " " : "";
}

bool is_negative(const Value& integer) {
  return integer.is_big() ? integer.big().is_negative() : integer.as_int() < 0;
}

std::string character_of(const Value& integer) {
  if (integer.is_big() || integer.as_int() < 0 || integer.as_int() > 0x10FFFF)
    raise("%c arg not in range(0x110000)");
  std::string c;
  append_code_point(c, static_cast<char32_t>(integer.as_int()));
  return c;
}

Spec parse_spec(std::string_view text) {
  Spec spec;
  size_t i = 0;
  bool has_fill = false;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  if (!text.empty()) {
    size_t after = 0;
    next_code_point(text, after);
    if (after < text.size() && is_align(text[after])) {
      spec.fill = text.substr(0, after);
      has_fill = true;
      spec.align = text[after];
      i = after + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      i = 1;
    }
  }
  const auto next = [&](std::string_view any) {
    return i < text.size() && any.find(text[i]) != std::string_view::npos ? text[i++] : '\0';
  };
  if (const char sign = next("+- "); sign != '\0') {
    spec.sign = sign;
    spec.has_sign = true;
  }
  spec.no_negative_zero = next("z") != '\0';
  spec.alternate = next("#") != '\0';
  if (!has_fill && next("0") != '\0') {
    spec.zero = true;
    spec.fill = "0";
    if (spec.align == '\0') spec.align = '=';
  }
  spec.width = read_number(text, i);
  spec.grouping = next(",_");
  if (next(".") != '\0') {
    const size_t digits = i;
    spec.precision = read_number(text, i);
    if (i == digits) raise("Format specifier missing precision");
  }
  if (i < text.size()) spec.type = text[i++];
  if (i < text.size()) raise("Invalid format specifier '{}'", text);
  constexpr std::string_view kDecimal("defgEG%F\0", 9);
  const bool groups =
      kDecimal.find(spec.type) != std::string_view::npos ||
      (spec.grouping == '_' && std::string_view("boxX").find(spec.type) != std::string_view::npos);
  if (spec.grouping != '\0' && !groups) raise("Cannot specify '{}' with '{}'.", spec.grouping, spec.type);
  return spec;
}

std::string format_integer(const Value& value, const Spec& spec) {
  if (spec.precision >= 0) raise("Precision not allowed in integer format specifier");
  if (spec.no_negative_zero) raise("Negative zero coercion (z) not allowed in format specifier with integer");
  int base = 10;
  std::string prefix;
  switch (spec.type) {
    case '\0':
    case 'd':
    case 'n':
      break;
    case 'b':
      base = 2;
      prefix = "0b";
      break;
    case 'o':
      base = 8;
      prefix = "0o";
      break;
    case 'x':
    case 'X':
      base = 16;
      prefix = spec.type == 'x' ? "0x" : "0X";
      break;
    case 'c': {
      if (spec.has_sign) raise("Sign not allowed with integer format specifier 'c'");
      if (spec.alternate) raise("Alternate form (#) not allowed with integer format specifier 'c'");
      return pad("", character_of(value), spec, '>');
    }
    default:
      raise("Unknown format code '{}' for object of type 'int'", spec.type);
  }
  std::string digits = print_magnitude(value, base, spec.type == 'X');
  const std::string head = sign_text(is_negative(value), spec.sign) + (spec.alternate ? prefix : "");
  if (spec.grouping != '\0') digits = group_in_field(std::move(digits), head, spec, base == 10 ? 3 : 4);
  return pad(head, digits, spec, '>');
}

// As repr, or with so many digits in the way of 'g' but with at least one digit after the point.
std::string print_as_repr(double value, int64_t precision, bool alternate) {
  if (!std::isfinite(value)) return print_real(value, 'g', 0, false);
  const bool shortest = precision < 0;
  precision = std::max<int64_t>(precision, 1);
  // "-d.ddde+xx" gives the digits and where the point is among them.
  std::array<char, 32> buffer{};
  std::string text;
  if (shortest)
    text.assign(buffer.data(),
                std::to_chars(buffer.begin(), buffer.end(), value, std::chars_format::scientific).ptr);
  else
    text = print_real(value, 'e', precision - 1, false);
  const size_t e = text.find('e');
  int64_t point = std::stoll(text.substr(e + 1)) + 1;
  std::string digits;
  for (const char c : text.substr(0, e))
    if (c >= '0' && c <= '9') digits += c;
  while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
  const int64_t exponent = point - 1;
  const bool scientific = point <= -4 || point > (shortest ? 16 : precision - 1);
  if (scientific) point = 1;
  auto end = static_cast<int64_t>(digits.size());
  if (alternate && !shortest) end = precision;
  end = std::max(end, scientific ? point : point + 1);
  std::string out = std::signbit(value) ? "-" : "";
  for (int64_t i = std::min<int64_t>(point - 1, 0); i < end; i++) {
    if (i == point) out += '.';
    out += i >= 0 && i < static_cast<int64_t>(digits.size()) ? digits[static_cast<size_t>(i)] : '0';
  }
  if (alternate && end == point) out += '.';
  return scientific ? out + fmt::format("e{:+03}", exponent) : out;
}

std::string format_real(double value, const Spec& spec) {
  std::string text;
  char type = spec.type;
  switch (type) {
    case '\0':
      text = print_as_repr(value, spec.precision, spec.alternate);
      break;
    case '%':
      text = print_real(value * 100, 'f', spec.precision, spec.alternate) + "%";
      break;
    case 'n':
      type = 'g';
      [[fallthrough]];
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      text = print_real(value, type, spec.precision, spec.alternate);
      break;
    default:
      raise("Unknown format code '{}' for object of type 'float'", spec.type);
  }
  bool negative = text[0] == '-';
  if (negative) text.erase(0, 1);
  if (spec.no_negative_zero &&
      text.substr(0, text.find_first_of("eE")).find_first_of("123456789in") == std::string::npos)
    negative = false;
  const std::string head = sign_text(negative, spec.sign);
  if (spec.grouping != '\0') text = group_in_field(std::move(text), head, spec, 3);
  return pad(head, text, spec, '>');
}

std::string format_text(const std::string& text, const Spec& spec) {
  if (spec.type != '\0' && spec.type != 's')
    raise("Unknown format code '{}' for object of type 'str'", spec.type);
  if (spec.has_sign) raise("Sign not allowed in string format specifier");
  if (spec.no_negative_zero) raise("Negative zero coercion (z) not allowed in string format specifier");
  if (spec.alternate) raise("Alternate form (#) not allowed in string format specifier");
  if (spec.grouping != '\0') raise("Cannot specify '{}' with 's'.", spec.grouping);
  if (spec.align == '=' && !spec.zero) raise("'=' alignment not allowed in string format specifier");
  Spec field = spec;
  if (field.align == '=') field.align = '<';
  std::string cut = text;
  if (spec.precision >= 0) cut.resize(byte_offset(text, spec.precision));
  return pad("", cut, field, '<');
}

// ascii(): repr with everything past ASCII escaped.
std::string ascii_repr(const Value& value) {
  const std::string text = repr(value);
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<uint32_t>(next_code_point(text, i));
    if (c < 0x80)
      out += static_cast<char>(c);
    else
      out += c < 0x100     ? fmt::format("\\x{:02x}", c)
             : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                           : fmt::format("\\U{:08x}", c);
  }
  return out;
}

// The conversions of the % operator.
class PercentFormatter {
 public:
  PercentFormatter(std::string_view format, const Value& arguments) : format_(format), arguments_(arguments) {
    const bool is_tuple = arguments.is_sequence() && arguments.sequence().kind == Sequence::Kind::tuple;
    if (is_tuple)
      values_ = arguments.sequence().items;
    else
      values_.push_back(arguments);
    is_mapping_ = !is_tuple && !arguments.is_string() && (arguments.is_dict() || arguments.is_sequence());
  }

  std::string run() {
    std::string out;
    for (size_t i = 0; i < format_.size();) {
      if (format_[i] != '%') {
        out += format_[i++];
        continue;
      }
      i++;
      if (i < format_.size() && format_[i] == '%')
        out += format_[i++];
      else
        out += conversion(i);
      check_text_size(static_cast<int64_t>(out.size()));
    }
    if (used_ < values_.size() && !is_mapping_) raise("not all arguments converted during string formatting");
    return out;
  }

 private:
  const Value& next() {
    if (used_ >= values_.size()) raise("not enough arguments for format string");
    return values_[used_++];
  }

  int64_t number_or_star(size_t& i) {
    if (i < format_.size() && format_[i] == '*') {
      i++;
      const int64_t n = require_int(next());
      if (n > kMostWidth || n < -kMostWidth)
        raise("a width or precision in a format is above {}", kMostWidth);
      return n;
    }
    return read_number(format_, i);
  }

  std::string conversion(size_t& i) {
    Spec spec;
    std::optional<Value> named;
    bool left = false;
    if (i < format_.size() && format_[i] == '(') {
      const size_t close = format_.find(')', i);
      if (close == std::string_view::npos) raise("incomplete format key");
      if (!arguments_.is_dict()) raise("format requires a mapping");
      const Value key(format_.substr(i + 1, close - i - 1));
      const Value* found = arguments_.dict().find(key);
      if (found == nullptr) raise("{}", repr(key));
      named = *found;
      i = close + 1;
    }
    for (; i < format_.size(); i++) {
      const char c = format_[i];
      if (c == '-')
        left = true;
      else if (c == '+')
        spec.sign = '+';
      else if (c == ' ' && spec.sign != '+')
        spec.sign = ' ';
      else if (c == '#')
        spec.alternate = true;
      else if (c == '0')
        spec.zero = true;
      else if (c != ' ')
        break;
    }
    spec.width = number_or_star(i);
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (i < format_.size() && format_[i] == '.') {
      i++;
      spec.precision = std::max<int64_t>(number_or_star(i), 0);
    }
    while (i < format_.size() && (format_[i] == 'l' || format_[i] == 'h' || format_[i] == 'L')) i++;
    if (i >= format_.size()) raise("incomplete format");
    spec.type = format_[i++];
    spec.align = left ? '<' : '>';
    const Value& value = named.has_value() ? (used_ = values_.size(), *named) : next();
    return convert(value, spec, left);
  }

  static std::string convert(const Value& value, Spec spec, bool left) {
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a': {
        std::string text = spec.type == 's'   ? to_text(value)
                           : spec.type == 'r' ? repr(value)
                                              : ascii_repr(value);
        if (spec.precision >= 0) text.resize(byte_offset(text, spec.precision));
        return pad("", text, spec, '>');
      }
      case 'c': {
        if (value.is_string() && length(value) == 1) return pad("", value.text(), spec, '>');
        if (!value.is_whole()) raise("%c requires int or char");
        return pad("", character_of(value), spec, '>');
      }
      default:
        break;
    }
    if (spec.zero && !left) {
      spec.fill = "0";
      spec.align = '=';
    }
    return spec.type == 'd' || spec.type == 'i' || spec.type == 'u' || spec.type == 'x' || spec.type == 'X' ||
                   spec.type == 'o'
               ? convert_integer(value, spec)
               : convert_real(value, spec);
  }

  static std::string convert_integer(const Value& value, const Spec& spec) {
    if (value.is_undefined()) raise_undefined(value);
    const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    if (!value.is_number() || (value.is_real() && !decimal))
      raise("%{} format: {} is required, not {}", spec.type, decimal ? "a real number" : "an integer",
            value.type_name());
    const Value n = value.is_real() ? whole_part(value.as_real()) : value;
    const int base = decimal ? 10 : spec.type == 'o' ? 8 : 16;
    std::string digits = print_magnitude(n, base, spec.type == 'X');
    while (static_cast<int64_t>(digits.size()) < spec.precision) digits.insert(0, 1, '0');
    std::string head = sign_text(is_negative(n), spec.sign);
    if (spec.alternate && !decimal) head += std::string("0") + spec.type;
    return pad(head, digits, spec, '>');
  }

  static std::string convert_real(const Value& value, const Spec& spec) {
    if (std::string_view("eEfFgG").find(spec.type) == std::string_view::npos)
      raise("unsupported format character '{}' (0x{:x})", spec.type, static_cast<int>(spec.type));
    if (value.is_undefined()) raise_undefined(value);
    if (!value.is_number()) raise("must be real number, not {}", value.type_name());
    std::string text = print_real(value.as_real(), spec.type, spec.precision, spec.alternate);
    const bool negative = text[0] == '-';
    if (negative) text.erase(0, 1);
    return pad(sign_text(negative, spec.sign), text, spec, '>');
  }

  std::string_view format_;
  const Value& arguments_;
  std::vector<Value> values_;
  size_t used_ = 0;
  bool is_mapping_ = false;
};

// str.format.
class BraceFormatter {
 public:
  BraceFormatter(Interpreter& interpreter, const Arguments& arguments)
      : interpreter_(interpreter), arguments_(arguments) {}

  std::string run(std::string_view format, int depth = 0) {
    if (depth > 2) raise("Max string recursion exceeded");
    std::string out;
    for (size_t i = 0; i < format.size(); i++) {
      const char c = format[i];
      const bool twice = i + 1 < format.size() && format[i + 1] == c;
      if ((c == '{' || c == '}') && twice && depth == 0) {
        out += c;
        i++;
      } else if (c == '{') {
        const size_t end = closing(format, i);
        out += field(format.substr(i + 1, end - i - 1), depth);
        check_text_size(static_cast<int64_t>(out.size()));
        i = end;
      } else if (c == '}') {
        raise("Single '}}' encountered in format string");
      } else {
        out += c;
      }
    }
    return out;
  }

 private:
  static size_t closing(std::string_view format, size_t open) {
    int level = 0;
    for (size_t i = open; i < format.size(); i++) {
      if (format[i] == '{') level++;
      if (format[i] == '}' && --level == 0) return i;
    }
    if (open + 1 >= format.size()) raise("Single '{{' encountered in format string");
    raise("expected '}}' before end of string");
  }

  std::string field(std::string_view text, int depth) {
    size_t name_end = 0;
    int level = 0;
    while (name_end < text.size()) {
      const char c = text[name_end];
      if (c == '[') level++;
      if (c == ']') level--;
      if (level == 0 && (c == '!' || c == ':')) break;
      name_end++;
    }
    Value value = look_up(text.substr(0, name_end));
    std::string_view rest = text.substr(name_end);
    if (!rest.empty() && rest[0] == '!') {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':'))
        raise("expected ':' after conversion specifier");
      if (rest[1] == 's')
        value = Value(to_text(value));
      else if (rest[1] == 'r')
        value = Value(repr(value));
      else if (rest[1] == 'a')
        value = Value(ascii_repr(value));
      else
        raise("Unknown conversion specifier {}", rest[1]);
      rest = rest.substr(2);
    }
    const std::string spec = rest.empty() ? "" : run(rest.substr(1), depth + 1);
    return format_spec(value, spec);
  }

  Value look_up(std::string_view name) {
    size_t i = std::min(name.find_first_of(".["), name.size());
    number_fields(name);
    Value value = name.empty() ? positional(next_++) : argument(name.substr(0, i));
    while (i < name.size()) {
      if (name[i] == '.') {
        const size_t end = std::min(name.find_first_of(".[", i + 1), name.size());
        if (end == i + 1) raise("Empty attribute in format string");
        value = interpreter_.attribute(value, std::string(name.substr(i + 1, end - i - 1)));
        i = end;
      } else if (name[i] == '[') {
        const size_t end = name.find(']', i);
        if (end == std::string_view::npos) raise("Missing ']' in format string");
        const std::string_view key = name.substr(i + 1, end - i - 1);
        if (key.empty()) raise("Empty attribute in format string");
        size_t digits = 0;
        const bool is_index = key.find_first_not_of("0123456789") == std::string_view::npos;
        value = interpreter_.item(value, is_index ? Value(read_number(key, digits)) : Value(key));
        i = end + 1;
      } else {
        raise("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  // Fields are numbered all by themselves or all by hand; one that goes on after its number counts as
  // neither.
  void number_fields(std::string_view name) {
    const bool by_hand = name.find_first_not_of("0123456789") == std::string_view::npos && !name.empty();
    if (name.empty() ? numbered_ : by_hand && next_ > 0)
      raise("cannot switch between manual field specification and automatic field numbering");
    numbered_ = numbered_ || by_hand;
  }

  Value positional(int64_t index) const {
    if (index >= static_cast<int64_t>(arguments_.positional.size()))
      raise("Replacement index {} out of range for positional args tuple", index);
    return arguments_.positional[static_cast<size_t>(index)];
  }

  Value argument(std::string_view name) const {
    size_t digits = 0;
    if (!name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos)
      return positional(read_number(name, digits));
    for (const auto& [key, value] : arguments_.keyword)
      if (key == name) return value;
    raise("{}", repr_text(name));
  }

  Interpreter& interpreter_;
  const Arguments& arguments_;
  int64_t next_ = 0;
  bool numbered_ = false;
};

}  // namespace

std::string format_percent(const Value& format, const Value& arguments) {
  spend_bytes(static_cast<int64_t>(format.text().size()));
  return PercentFormatter(format.text(), arguments).run();
}

std::string format_braces(Interpreter& interpreter, std::string_view format, const Arguments& arguments) {
  spend_bytes(static_cast<int64_t>(format.size()));
  return BraceFormatter(interpreter, arguments).run(format);
}

std::string format_spec(const Value& value, std::string_view text) {
  if (text.empty()) return to_text(value);
  const Spec spec = parse_spec(text);
  if (value.is_string()) return format_text(value.text(), spec);
  const bool as_real =
      std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type != '\0';
  if (value.is_real() || (value.is_whole() && as_real)) return format_real(value.as_real(), spec);
  if (value.is_whole()) return format_integer(value, spec);
  raise("unsupported format string passed to {}.__format__", value.type_name());
}

}  // namespace serval::jinja
