#include "text/jinja/methods.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <span>

#include "text/jinja/arguments.h"
#include "text/jinja/format.h"
#include "text/jinja/numbers.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

struct Method {
  std::string_view name;
  Value (*run)(Interpreter&, const Value& self, const Arguments&);
};

struct BoundMethod : Callable {
  BoundMethod(const Method& of, Value object)
      : Callable(std::string(of.name)), method(of), self(std::move(object)) {
    hold(*this, self);
  }
  Value call(Interpreter& interpreter, const Arguments& arguments) override {
    // Every method may look at each character, some slowly.
    if (self.is_string()) spend(static_cast<int64_t>(self.text().size()) / 12);
    return method.run(interpreter, self, arguments);
  }
  std::string describe() const override {
    return fmt::format("<built-in method {} of {} object>", name, self.type_name());
  }
  const Method& method;
  Value self;
};

// A string of the kind of `self`: what is cut out of Markup is Markup.
Value like(const Value& self, std::string text) {
  return self.string().markup ? Value::markup(std::move(text)) : Value(std::move(text));
}

// Cuts `part` out of the text of `self` and keeps the generated ranges inside of it.
Value cut(const Value& self, std::string_view part) {
  const String& whole = self.string();
  auto text = std::make_shared<String>(std::string(part), whole.markup);
  const auto begin = static_cast<int64_t>(part.data() - whole.text.data());
  const auto size = static_cast<int64_t>(part.size());
  for (const TextRange& r : whole.generated) {
    const TextRange clipped{std::clamp<int64_t>(r.begin - begin, 0, size),
                            std::clamp<int64_t>(r.end - begin, 0, size), r.message};
    text->generated.push_back(clipped);
  }
  return Value::string(std::move(text));
}

// ---- str ----

template <std::string (*Change)(std::string_view)>
Value changed(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("str method", arguments, {}, 0);
  return like(self, Change(self.text()));
}

template <bool Left, bool Right>
Value stripped(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("strip", arguments, {"chars"}, 0);
  if (!b.has(0) || b.value(0).is_none()) return cut(self, strip(self.text(), "", Left, Right));
  const std::string chars = b.text(0, "", "strip arg");
  if (chars.empty()) return self;
  spend(static_cast<int64_t>(self.text().size() * chars.size()) / 64);
  return cut(self, strip(self.text(), chars, Left, Right));
}

// The part of the text between two optional code point positions, as in find(sub, start, end).
struct Window {
  std::string_view text;
  int64_t first = 0;  // code point at which it starts
  bool valid = true;  // false where start is past end
};

Window window_of(const Value& self, const Bound& b, size_t start, size_t end) {
  const int64_t size = length(self);
  const auto clip = [&](size_t i, int64_t otherwise) {
    int64_t at = b.has(i) && !b.value(i).is_none() ? clipped_int(b.value(i)) : otherwise;
    if (at < 0) at += size;
    return std::max<int64_t>(at, 0);
  };
  const int64_t from = clip(start, 0), to = std::min(clip(end, size), size);
  if (from > to) return {{}, from, false};
  const size_t begin = byte_offset(self.text(), from);
  const std::string_view rest = std::string_view(self.text()).substr(begin);
  return {rest.substr(0, byte_offset(rest, to - from)), from, true};
}

size_t find_last(std::string_view text, std::string_view needle) {
  spend_bytes(static_cast<int64_t>(text.size()));
  for (size_t at = text.size(); at != std::string::npos && at > 0;) {
    at = text.rfind(needle.empty() ? '\0' : needle[0], at - 1);
    if (at == std::string::npos) break;
    spend_bytes(static_cast<int64_t>(needle.size()));
    if (text.substr(at, needle.size()) == needle) return at;
  }
  return std::string::npos;
}

int64_t find_in(const Value& self, const Arguments& arguments, bool last) {
  const Bound b = bind("find", arguments, {"sub", "start", "end"}, 1);
  const std::string needle = b.text(0, "", "must be str");
  const Window w = window_of(self, b, 1, 2);
  if (!w.valid) return -1;
  size_t at = std::string::npos;
  if (needle.empty())
    at = last ? w.text.size() : 0;
  else
    at = last ? find_last(w.text, needle) : find_text(w.text, needle);
  return at == std::string::npos ? -1 : w.first + count_code_points(w.text.substr(0, at));
}

template <bool Last>
Value find(Interpreter&, const Value& self, const Arguments& arguments) {
  return Value(find_in(self, arguments, Last));
}

template <bool Last>
Value index(Interpreter&, const Value& self, const Arguments& arguments) {
  const int64_t at = find_in(self, arguments, Last);
  if (at < 0) raise("substring not found");
  return Value(at);
}

Value count(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("count", arguments, {"sub", "start", "end"}, 1);
  const std::string needle = b.text(0, "", "must be str");
  const Window w = window_of(self, b, 1, 2);
  if (!w.valid) return Value(int64_t{0});
  if (needle.empty()) return Value(count_code_points(w.text) + 1);
  int64_t n = 0;
  for (size_t at = 0; (at = find_text(w.text, needle, at)) != std::string::npos; at += needle.size()) n++;
  return Value(n);
}

template <bool Start>
Value has_affix(Interpreter&, const Value& self, const Arguments& arguments) {
  const char* name = Start ? "startswith" : "endswith";
  const Bound b = bind(name, arguments, {"prefix", "start", "end"}, 1);
  const Value affix = b.value(0);
  const Window w = window_of(self, b, 1, 2);
  const auto matches = [&](const Value& one) {
    if (!one.is_string()) raise("tuple for {} must only contain str, not {}", name, one.type_name());
    return w.valid && (Start ? w.text.starts_with(one.text()) : w.text.ends_with(one.text()));
  };
  if (affix.is_undefined()) raise_undefined(affix);
  if (affix.is_string()) return Value(matches(affix));
  if (!affix.is_sequence() || affix.sequence().kind != Sequence::Kind::tuple)
    raise("{} first arg must be str or a tuple of str, not {}", name, affix.type_name());
  for (const Value& one : affix.sequence().items)
    if (matches(one)) return Value(true);
  return Value(false);
}

Value strings(const Value& self, const std::vector<std::string_view>& parts) {
  check_text_size(static_cast<int64_t>(parts.size() * (sizeof(String) + sizeof(Value))));
  spend(static_cast<int64_t>(parts.size()) / 2);
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(like(self, std::string(part)));
  return Value::list(std::move(items));
}

template <bool FromRight>
Value split(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("split", arguments, {"sep", "maxsplit"}, 0);
  const int64_t most = b.integer(1, -1);
  const std::string_view text = self.text();
  spend_bytes(static_cast<int64_t>(text.size()));
  if (!b.has(0) || b.value(0).is_none()) return strings(self, split_blanks(text, most, FromRight));
  const std::string separator = b.text(0, "", "must be str or None");
  if (separator.empty()) raise("empty separator");
  std::vector<std::string_view> parts;
  if (FromRight) {
    size_t end = text.size();
    while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
      const size_t at = find_last(text.substr(0, end), separator);
      if (at == std::string::npos) break;
      parts.push_back(text.substr(at + separator.size(), end - at - separator.size()));
      end = at;
    }
    parts.push_back(text.substr(0, end));
    std::reverse(parts.begin(), parts.end());
    return strings(self, parts);
  }
  size_t begin = 0;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = find_text(text, separator, begin);
    if (at == std::string::npos) break;
    parts.push_back(text.substr(begin, at - begin));
    begin = at + separator.size();
  }
  parts.push_back(text.substr(begin));
  return strings(self, parts);
}

Value splitlines(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("splitlines", arguments, {"keepends"}, 0);
  spend_bytes(static_cast<int64_t>(self.text().size()));
  return strings(self, split_lines(self.text(), b.boolean(0, false)));
}

template <bool Last>
Value partition(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("partition", arguments, {"sep"}, 1);
  const std::string separator = b.text(0, "", "must be str");
  if (separator.empty()) raise("empty separator");
  const std::string& text = self.text();
  const size_t at = Last ? find_last(text, separator) : find_text(text, separator);
  const Value none = like(self, "");
  if (at == std::string::npos)
    return Value::tuple(Last ? std::vector<Value>{none, none, self} : std::vector<Value>{self, none, none});
  return Value::tuple({like(self, text.substr(0, at)), like(self, separator),
                       like(self, text.substr(at + separator.size()))});
}

Value replace(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("replace", arguments, {"old", "new", "count"}, 2);
  const std::string from = b.text(0, "", "replace() argument 1"), to = b.text(1, "", "replace() argument 2");
  return like(self, replace_text(self.text(), from, to, b.integer(2, -1)));
}

Value join(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("join", arguments, {"iterable"}, 1);
  std::string out;
  int64_t i = 0;
  for (const Value& item : items_of(b.value(0))) {
    if (!item.is_string()) raise("sequence item {}: expected str instance, {} found", i, item.type_name());
    if (i++ > 0) out += self.text();
    out += item.text();
    check_text_size(static_cast<int64_t>(out.size()));
  }
  return like(self, std::move(out));
}

template <bool Start>
Value remove_affix(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind(Start ? "removeprefix" : "removesuffix", arguments, {"affix"}, 1);
  const std::string affix = b.text(0, "", "argument");
  const std::string_view text = self.text();
  if (!(Start ? text.starts_with(affix) : text.ends_with(affix)) || affix.empty()) return self;
  return cut(self, Start ? text.substr(affix.size()) : text.substr(0, text.size() - affix.size()));
}

enum class Align { left, right, center };

template <Align How>
Value justify(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("ljust", arguments, {"width", "fillchar"}, 1);
  const std::string fill = b.text(1, " ", "the fill character");
  if (count_code_points(fill) != 1) raise("The fill character must be exactly one character long");
  const int64_t missing = b.integer(0, 0) - length(self);
  if (missing <= 0) return self;
  check_text_size(static_cast<int64_t>(fill.size()), missing);
  // Python puts the odd blank to the left where the width is odd.
  const int64_t before = How == Align::left    ? 0
                         : How == Align::right ? missing
                                               : missing / 2 + (missing & b.integer(0, 0) & 1);
  std::string out;
  for (int64_t i = 0; i < before; i++) out += fill;
  out += self.text();
  for (int64_t i = before; i < missing; i++) out += fill;
  return like(self, std::move(out));
}

Value zfill(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("zfill", arguments, {"width"}, 1);
  const int64_t missing = b.integer(0, 0) - length(self);
  if (missing <= 0) return self;
  check_text_size(1, missing);
  const std::string& text = self.text();
  const size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  return like(self,
              text.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') + text.substr(sign));
}

Value expandtabs(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("expandtabs", arguments, {"tabsize"}, 0);
  const int64_t size = b.integer(0, 8);
  spend(static_cast<int64_t>(self.text().size()) / 8);
  std::string out;
  int64_t column = 0;
  for (const std::string_view c : code_points(self.text())) {
    if (c == "\t") {
      const int64_t blanks = size > 0 ? size - column % size : 0;
      check_text_size(static_cast<int64_t>(out.size()) + blanks);
      spend(blanks / 128);
      out.append(static_cast<size_t>(blanks), ' ');
      column += blanks;
    } else {
      column = c == "\n" || c == "\r" ? 0 : column + 1;
      out += c;
    }
  }
  return like(self, std::move(out));
}

template <bool (*Is)(char32_t)>
Value every(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("str method", arguments, {}, 0);
  const std::string_view text = self.text();
  if (text.empty()) return Value(false);
  for (size_t i = 0; i < text.size();)
    if (!Is(next_code_point(text, i))) return Value(false);
  return Value(true);
}

// All cased characters are of one case, and there is one.
template <bool (*Wanted)(char32_t), bool (*Other)(char32_t)>
Value cased(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("str method", arguments, {}, 0);
  const std::string_view text = self.text();
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (Other(c) || is_title(c)) return Value(false);
    any = any || Wanted(c);
  }
  return Value(any);
}

Value istitle(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("istitle", arguments, {}, 0);
  const std::string_view text = self.text();
  bool any = false, in_word = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (is_upper(c) || is_title(c)) {
      if (in_word) return Value(false);
      any = in_word = true;
    } else if (is_lower(c)) {
      if (!in_word) return Value(false);
    } else {
      in_word = false;
    }
  }
  return Value(any);
}

Value isascii(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("isascii", arguments, {}, 0);
  return Value(self.string().ascii);
}

Value isprintable(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  return self.text().empty() ? Value(true) : every<is_printable>(interpreter, self, arguments);
}

Value isidentifier(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("isidentifier", arguments, {}, 0);
  const std::string_view text = self.text();
  for (size_t i = 0; i < text.size();) {
    const bool first = i == 0;
    const char32_t c = next_code_point(text, i);
    if (!(first ? starts_identifier(c) : continues_identifier(c))) return Value(false);
  }
  return Value(!text.empty());
}

// Each character is looked up by its code point: none drops it, a number is another character.
Value translate(Interpreter&, const Value& self, const Arguments& arguments) {
  const Value table = bind("translate", arguments, {"table"}, 1).value(0);
  if (table.is_undefined()) raise_undefined(table);
  if (!table.is_dict() && !table.is_sequence() && !table.is_string())
    raise("'{}' object is not subscriptable", table.type_name());
  std::string out;
  const std::string_view text = self.text();
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const auto c = static_cast<int64_t>(next_code_point(text, i));
    const std::optional<Value> found = find_item(table, Value(c));
    check_text_size(static_cast<int64_t>(out.size()));
    if (!found.has_value())
      out += text.substr(begin, i - begin);
    else if (found->is_string())
      out += found->text();
    else if (found->is_integral() && found->as_int() >= 0 && found->as_int() <= 0x10FFFF)
      append_code_point(out, static_cast<char32_t>(found->as_int()));
    else if (!found->is_none())
      raise("character mapping must return integer, None or str");
  }
  return like(self, std::move(out));
}

Value maketrans(Interpreter&, const Value&, const Arguments& arguments) {
  const Bound b = bind("maketrans", arguments, {"x", "y", "z"}, 1);
  auto table = std::make_shared<Dict>();
  if (!b.has(1)) {
    if (!b.value(0).is_dict()) raise("if you give only one argument to maketrans it must be a dict");
    for (const auto& [key, value] : b.value(0).dict().entries) {
      if (!key.is_string() && !key.is_whole()) raise("keys in translate table must be strings or integers");
      if (key.is_string() && length(key) != 1) raise("string keys in translate table must be of length 1");
      size_t at = 0;
      table->set(key.is_string() ? Value(static_cast<int64_t>(next_code_point(key.text(), at))) : key, value);
    }
    return Value(std::move(table));
  }
  const std::string from = b.text(0, "", "maketrans() argument 1"),
                    to = b.text(1, "", "maketrans() argument 2");
  if (count_code_points(from) != count_code_points(to))
    raise("the first two maketrans arguments must have equal length");
  for (size_t i = 0, k = 0; i < from.size();) {
    const auto key = static_cast<int64_t>(next_code_point(from, i));
    table->set(Value(key), Value(static_cast<int64_t>(next_code_point(to, k))));
  }
  const std::string dropped = b.text(2, "", "maketrans() argument 3");
  for (size_t i = 0; i < dropped.size();)
    table->set(Value(static_cast<int64_t>(next_code_point(dropped, i))), Value());
  return Value(std::move(table));
}

Value format(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  return like(self, format_braces(interpreter, self.text(), arguments));
}

Value format_map(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound b = bind("format_map", arguments, {"mapping"}, 1);
  Arguments fields;
  if (b.value(0).is_dict())
    for (const auto& [key, value] : b.value(0).dict().entries)
      if (key.is_string()) fields.keyword.emplace_back(key.text(), value);
  return like(self, format_braces(interpreter, self.text(), fields));
}

Value encode(Interpreter&, const Value&, const Arguments&) {
  raise("str.encode gives bytes, which a chat template has no use for");
}

constexpr std::array kStringMethods = std::to_array<Method>({
    {"capitalize", changed<capitalize>},
    {"casefold", changed<case_fold>},
    {"center", justify<Align::center>},
    {"count", count},
    {"encode", encode},
    {"endswith", has_affix<false>},
    {"expandtabs", expandtabs},
    {"find", find<false>},
    {"format", format},
    {"format_map", format_map},
    {"index", index<false>},
    {"isalnum", every<is_alphanumeric>},
    {"isalpha", every<is_alphabetic>},
    {"isascii", isascii},
    {"isdecimal", every<is_decimal>},
    {"isdigit", every<is_digit>},
    {"isidentifier", isidentifier},
    {"islower", cased<is_lower, is_upper>},
    {"isnumeric", every<is_numeric>},
    {"isprintable", isprintable},
    {"isspace", every<is_space>},
    {"istitle", istitle},
    {"isupper", cased<is_upper, is_lower>},
    {"join", join},
    {"ljust", justify<Align::left>},
    {"lower", changed<to_lower>},
    {"lstrip", stripped<true, false>},
    {"maketrans", maketrans},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<true>},
    {"removesuffix", remove_affix<false>},
    {"replace", replace},
    {"rfind", find<true>},
    {"rindex", index<true>},
    {"rjust", justify<Align::right>},
    {"rpartition", partition<true>},
    {"rsplit", split<true>},
    {"rstrip", stripped<false, true>},
    {"split", split<false>},
    {"splitlines", splitlines},
    {"startswith", has_affix<true>},
    {"strip", stripped<true, true>},
    {"swapcase", changed<swap_case>},
    {"title", changed<title_case>},
    {"translate", translate},
    {"upper", changed<to_upper>},
    {"zfill", zfill},
});

// ---- int, float ----

Value conjugate(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("conjugate", arguments, {}, 0);
  return self.is_integral() ? Value(self.as_int()) : self;
}

template <bool Ones>
Value bits(Interpreter&, const Value& self, const Arguments& arguments) {
  bind(Ones ? "bit_count" : "bit_length", arguments, {}, 0);
  if (self.is_big()) {
    const std::string digits = self.big().text(2);
    const auto ones = std::count(digits.begin(), digits.end(), '1');
    const auto zeros = std::count(digits.begin(), digits.end(), '0');
    return Value(static_cast<int64_t>(Ones ? ones : ones + zeros));
  }
  const int64_t n = self.as_int();
  const uint64_t magnitude = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
  return Value(static_cast<int64_t>(Ones ? std::popcount(magnitude) : std::bit_width(magnitude)));
}

Value integer_ratio(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("as_integer_ratio", arguments, {}, 0);
  if (!self.is_real()) return Value::tuple({posate(self), Value(int64_t{1})});
  if (!std::isfinite(self.as_real())) raise("cannot convert {} to integer ratio", repr(self));
  int exponent = 0;
  double mantissa = std::frexp(self.as_real(), &exponent);
  while (mantissa != std::floor(mantissa)) {
    mantissa *= 2;
    exponent--;
  }
  const Value over = whole_part(exponent > 0 ? std::ldexp(mantissa, exponent) : mantissa);
  return Value::tuple({over, Value::integer(BigInteger(2).power(std::max(-exponent, 0)))});
}

Value is_whole(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("is_integer", arguments, {}, 0);
  return Value(std::isfinite(self.as_real()) && self.as_real() == std::floor(self.as_real()));
}

// The bits of a double as Python's float.hex writes them: 13 digits after the point.
Value hexadecimal(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("hex", arguments, {}, 0);
  const double value = self.as_real();
  if (!std::isfinite(value)) return Value(repr(self));
  const auto raw = std::bit_cast<uint64_t>(value);
  const auto exponent = static_cast<int64_t>((raw >> 52) & 0x7FF);
  const uint64_t fraction = raw & ((uint64_t{1} << 52) - 1);
  const char* sign = (raw >> 63) != 0 ? "-" : "";
  if (exponent == 0 && fraction == 0) return Value(fmt::format("{}0x0.0p+0", sign));
  return Value(fmt::format("{}0x{}.{:013x}p{:+d}", sign, exponent != 0 ? 1 : 0, fraction,
                           exponent != 0 ? exponent - 1023 : -1022));
}

constexpr std::array kIntegerMethods = std::to_array<Method>({
    {"as_integer_ratio", integer_ratio},
    {"bit_count", bits<true>},
    {"bit_length", bits<false>},
    {"conjugate", conjugate},
});
constexpr std::array kRealMethods = std::to_array<Method>({
    {"as_integer_ratio", integer_ratio},
    {"conjugate", conjugate},
    {"hex", hexadecimal},
    {"is_integer", is_whole},
});

// ---- dict ----

Value dict_view(const Value& self, Sequence::Kind kind) {
  std::vector<Value> items;
  items.reserve(self.dict().entries.size());
  for (const auto& [key, value] : self.dict().entries) {
    if (kind == Sequence::Kind::keys)
      items.push_back(key);
    else if (kind == Sequence::Kind::values)
      items.push_back(value);
    else
      items.push_back(Value::tuple({key, value}));
  }
  return Value::sequence(std::make_shared<Sequence>(kind, std::move(items)));
}

template <Sequence::Kind Kind>
Value view(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("dict view", arguments, {}, 0);
  return dict_view(self, Kind);
}

Value dict_get(Interpreter&, const Value& self, const Arguments& arguments) {
  if (!arguments.keyword.empty()) raise("dict.get() takes no keyword arguments");
  const Bound b = bind("get", arguments, {"key", "default"}, 1);
  const Value* found = self.dict().find(b.value(0));
  return found != nullptr ? *found : b.value(1);
}

Value copy(Interpreter&, const Value& self, const Arguments& arguments) {
  bind("copy", arguments, {}, 0);
  return self;  // nothing can change it
}

constexpr std::array kDictMethods = std::to_array<Method>({
    {"copy", copy},
    {"get", dict_get},
    {"items", view<Sequence::Kind::items>},
    {"keys", view<Sequence::Kind::keys>},
    {"values", view<Sequence::Kind::values>},
});

constexpr std::array<std::string_view, 5> kDictChanges = {"clear", "pop", "popitem", "setdefault", "update"};

// ---- list, tuple, range ----

Value sequence_count(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("count", arguments, {"value"}, 1);
  int64_t n = 0;
  for (const Value& item : self.sequence().items)
    if (equal(item, b.value(0))) n++;
  return Value(n);
}

Value sequence_index(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound b = bind("index", arguments, {"value", "start", "stop"}, 1);
  const auto& items = self.sequence().items;
  const auto size = static_cast<int64_t>(items.size());
  const auto clip = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size); };
  const int64_t stop = clip(b.integer(2, size));
  for (int64_t i = clip(b.integer(1, 0)); i < stop; i++)
    if (equal(items[static_cast<size_t>(i)], b.value(0))) return Value(i);
  if (self.type_name() == "tuple") raise("tuple.index(x): x not in tuple");
  raise("{} is not in {}", repr(b.value(0)), self.type_name());
}

constexpr std::array kListMethods = std::to_array<Method>({
    {"copy", copy},
    {"count", sequence_count},
    {"index", sequence_index},
});
constexpr std::array kTupleMethods = std::to_array<Method>({
    {"count", sequence_count},
    {"index", sequence_index},
});

constexpr std::array<std::string_view, 8> kListChanges = {"append", "clear",  "extend",  "insert",
                                                          "pop",    "remove", "reverse", "sort"};

// Attributes that Python gives every object.
constexpr std::array<std::string_view, 25> kInternals = {
    "__class__",   "__delattr__", "__dir__",           "__doc__",          "__eq__",
    "__format__",  "__ge__",      "__getattribute__",  "__getstate__",     "__gt__",
    "__hash__",    "__init__",    "__init_subclass__", "__le__",           "__lt__",
    "__ne__",      "__new__",     "__reduce__",        "__reduce_ex__",    "__repr__",
    "__setattr__", "__sizeof__",  "__str__",           "__subclasshook__", "__len__"};

bool is_one_of(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

const Method* find_in_table(std::span<const Method> methods, std::string_view name) {
  const auto at =
      std::find_if(methods.begin(), methods.end(), [&](const Method& m) { return m.name == name; });
  return at != methods.end() ? &*at : nullptr;
}

bool is_number_attribute(std::string_view name) {
  return name == "real" || name == "imag" || name == "numerator" || name == "denominator";
}

Value number_attribute(const Value& number, std::string_view name) {
  if (name == "imag") return number.is_real() ? Value(0.0) : Value(int64_t{0});
  if (name == "denominator") return Value(int64_t{1});
  return number.is_integral() ? Value(number.as_int()) : number;
}

// The methods of the object's type, and those that would change it.
struct MethodsOfType {
  std::span<const Method> methods;
  std::span<const std::string_view> changes;
};

MethodsOfType methods_of(const Value& object) {
  if (object.is_string()) return {kStringMethods, {}};
  if (object.is_dict()) return {kDictMethods, kDictChanges};
  if (object.is_number())
    return {object.is_real() ? std::span<const Method>(kRealMethods) : kIntegerMethods, {}};
  if (!object.is_sequence()) return {};
  const Sequence::Kind kind = object.sequence().kind;
  if (kind == Sequence::Kind::list) return {kListMethods, kListChanges};
  if (kind == Sequence::Kind::tuple || kind == Sequence::Kind::range) return {kTupleMethods, {}};
  return {};
}

// What is no method: the parts of a group, a range or a number.
std::optional<Value> find_part(const Value& object, std::string_view name) {
  if (object.is_number() && is_number_attribute(name) &&
      (!object.is_real() || name == "real" || name == "imag"))
    return number_attribute(object, name);
  if (!object.is_sequence()) return std::nullopt;
  const Sequence& sequence = object.sequence();
  if (sequence.is_group && name == "grouper") return sequence.items[0];
  if (sequence.is_group && name == "list") return sequence.items[1];
  if (sequence.kind != Sequence::Kind::range) return std::nullopt;
  if (name == "start") return Value(sequence.start);
  if (name == "stop") return Value(sequence.stop);
  if (name == "step") return Value(sequence.step);
  return std::nullopt;
}

}  // namespace

std::vector<std::string_view> method_names(const Value& object) {
  std::vector<std::string_view> names;
  for (const Method& method : methods_of(object).methods) names.push_back(method.name);
  return names;
}

std::optional<Value> find_method(const Value& object, std::string_view name) {
  if (std::optional<Value> part = find_part(object, name); part.has_value()) return part;
  const auto [methods, changes] = methods_of(object);
  const Method* method = find_in_table(methods, name);
  if (method != nullptr)
    return Value(std::shared_ptr<Callable>(std::make_shared<BoundMethod>(*method, object)));
  if (is_one_of(changes, name) || is_one_of(kInternals, name))
    return Value::undefined(fmt::format("access to attribute {} of {} object is unsafe.", repr_text(name),
                                        repr_text(object.type_name())));
  return std::nullopt;
}

}  // namespace serval::jinja
