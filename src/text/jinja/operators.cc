#include "text/jinja/operators.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "text/jinja/format.h"
#include "text/jinja/numbers.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

using Kind = Sequence::Kind;

const char* symbol_of(BinaryOp op) {
  switch (op) {
    case BinaryOp::add:
      return "+";
    case BinaryOp::subtract:
      return "-";
    case BinaryOp::multiply:
      return "*";
    case BinaryOp::divide:
      return "/";
    case BinaryOp::floor_divide:
      return "//";
    case BinaryOp::modulo:
      return "%";
    case BinaryOp::power:
      return "** or pow()";
  }
  return "?";
}

[[noreturn]] void raise_operands(const char* symbol, const Value& a, const Value& b) {
  raise("unsupported operand type(s) for {}: '{}' and '{}'", symbol, a.type_name(), b.type_name());
}

bool views_as_set(const Value& v) {
  return v.is_sequence() && (v.sequence().kind == Kind::keys || v.sequence().kind == Kind::items);
}

bool equal_items(const std::vector<Value>& a, const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); i++)
    if (!equal(a[i], b[i])) return false;
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal(value, *other)) return false;
  }
  return true;
}

Value concatenate(const Value& a, const Value& b) {
  check_text_size(static_cast<int64_t>(a.text().size() + b.text().size()));
  const bool markup = a.string().markup || b.string().markup;
  const auto side = [&](const Value& v) {
    return markup && !v.string().markup ? escape_html(v.text()) : v.text();
  };
  auto joined = std::make_shared<String>(side(a) + side(b), markup);
  joined->generated = a.string().generated;
  const auto shift = static_cast<int64_t>(joined->text.size() - b.text().size());
  for (const TextRange& r : b.string().generated)
    joined->generated.push_back({r.begin + shift, r.end + shift, r.message});
  return Value::string(std::move(joined));
}

Value repeat(const Value& value, int64_t times) {
  times = std::max<int64_t>(times, 0);
  if (value.is_string()) {
    check_text_size(static_cast<int64_t>(value.text().size()), times);
    std::string out;
    out.reserve(value.text().size() * static_cast<size_t>(times));
    if (!value.text().empty())
      for (int64_t i = 0; i < times; i++) out += value.text();
    return value.string().markup ? Value::markup(std::move(out)) : Value(std::move(out));
  }
  const Sequence& sequence = value.sequence();
  check_text_size(static_cast<int64_t>(sequence.items.size() * sizeof(Value)), times);
  std::vector<Value> items;
  if (!sequence.items.empty()) {
    items.reserve(sequence.items.size() * static_cast<size_t>(times));
    for (int64_t i = 0; i < times; i++)
      items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return Value::sequence(std::make_shared<Sequence>(sequence.kind, std::move(items)));
}

bool is_list_or_tuple(const Value& v) {
  return v.is_sequence() && (v.sequence().kind == Kind::list || v.sequence().kind == Kind::tuple);
}

// Raises unless Python orders the two.
void require_order(const Value& a, const Value& b, const char* symbol) {
  if (a.is_number() && b.is_number()) return;
  if (a.is_string() && b.is_string()) return;
  if (is_list_or_tuple(a) && is_list_or_tuple(b) && a.sequence().kind == b.sequence().kind) return;
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined()) raise_undefined(b);
  raise("'{}' not supported between instances of '{}' and '{}'", symbol, a.type_name(), b.type_name());
}

std::string repr_items(const std::vector<Value>& items, const char* open, const char* close) {
  std::string out = open;
  for (size_t i = 0; i < items.size(); i++) {
    if (i > 0) out += ", ";
    out += repr(items[i]);
    check_text_size(static_cast<int64_t>(out.size()));
  }
  return out + close;
}

std::string repr_dict(const Dict& dict) {
  std::string out = "{";
  for (const auto& [key, value] : dict.entries) {
    if (out.size() > 1) out += ", ";
    out += repr(key);
    out += ": ";
    out += repr(value);
    check_text_size(static_cast<int64_t>(out.size()));
  }
  return out + "}";
}

// A namespace may hold itself.
std::string repr_namespace(const Namespace& space) {
  thread_local int depth = 0;
  struct Level {
    Level() { depth++; }
    ~Level() { depth--; }
  } const level;
  if (depth > current_limits().value_depth) raise("a namespace that holds itself cannot be printed");
  return "<Namespace " + repr_dict(*space.attributes) + ">";
}

std::string repr_sequence(const Sequence& sequence) {
  switch (sequence.kind) {
    case Kind::list:
      return repr_items(sequence.items, "[", "]");
    case Kind::tuple:
      return repr_items(sequence.items, "(", sequence.items.size() == 1 ? ",)" : ")");
    case Kind::range:
      if (sequence.step == 1) return fmt::format("range({}, {})", sequence.start, sequence.stop);
      return fmt::format("range({}, {}, {})", sequence.start, sequence.stop, sequence.step);
    case Kind::keys:
      return repr_items(sequence.items, "dict_keys([", "])");
    case Kind::values:
      return repr_items(sequence.items, "dict_values([", "])");
    case Kind::items:
      return repr_items(sequence.items, "dict_items([", "])");
  }
  return {};
}

std::optional<Value> item_at(const std::vector<Value>& items, int64_t index) {
  const auto size = static_cast<int64_t>(items.size());
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  return items[static_cast<size_t>(index)];
}

std::optional<Value> character_at(const String& text, int64_t index) {
  const int64_t size = text.ascii ? static_cast<int64_t>(text.text.size()) : count_code_points(text.text);
  if (!text.ascii) spend_bytes(static_cast<int64_t>(text.text.size()));
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  size_t begin = text.ascii ? static_cast<size_t>(index) : byte_offset(text.text, index);
  size_t end = begin;
  next_code_point(text.text, end);
  std::string character = text.text.substr(begin, end - begin);
  return text.markup ? Value::markup(std::move(character)) : Value(std::move(character));
}

int64_t slice_bound(const Value& value, int64_t missing, int64_t size, bool backwards) {
  if (value.is_none()) return missing;
  if (value.is_undefined() || !value.is_whole())
    raise("slice indices must be integers or None or have an __index__ method");
  int64_t bound = clipped_int(value);
  if (bound < 0) bound = bound < -size ? -1 : bound + size;
  if (bound < 0) return backwards ? -1 : 0;
  if (bound >= size) return backwards ? size - 1 : size;
  return bound;
}

}  // namespace

void raise_undefined(const Value& value) {
  throw TemplateError(value.undefined().message);
}

void check_text_size(int64_t bytes, int64_t times) {
  const Meter* meter = current_meter();
  const int64_t left = meter != nullptr ? meter->limits.memory_bytes - meter->memory : int64_t{1} << 30;
  int64_t total = 0;
  if (__builtin_mul_overflow(bytes, times, &total) || total > left)
    raise("the template needs too much memory (limit: {} bytes)", current_limits().memory_bytes);
  spend(times > 1 ? total / 128 : 0);
}

int64_t require_int(const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_big()) raise("the integer {} does not fit 64 bits here", value.big().text());
  if (!value.is_integral()) raise("'{}' object cannot be interpreted as an integer", value.type_name());
  return value.as_int();
}

int64_t clipped_int(const Value& value) {
  if (!value.is_big()) return require_int(value);
  constexpr int64_t kFar = std::numeric_limits<int64_t>::max() / 2;
  return value.big().is_negative() ? -kFar : kFar;
}

const std::string& require_string(const Value& value, const char* what) {
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is_string()) raise("{} must be str, not {}", what, value.type_name());
  return value.text();
}

double to_double(const Value& number) {
  return number.as_real();
}

// NOLINTNEXTLINE(misc-no-recursion): values are nested at most Limits::value_depth deep
bool equal(const Value& a, const Value& b) {
  spend();
  if (a.is_number() && b.is_number()) return equal_numbers(a, b);
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::undefined:
    case Type::none:
      return true;
    case Type::string:
      if (a.text().size() != b.text().size()) return false;
      spend_bytes(static_cast<int64_t>(a.text().size()));
      return a.text() == b.text();
    case Type::sequence:
      if (a.identity() == b.identity()) return true;
      if (views_as_set(a) && views_as_set(b)) {
        if (a.sequence().items.size() != b.sequence().items.size()) return false;
        for (const Value& item : a.sequence().items)
          if (!contains(b, item)) return false;
        return true;
      }
      if (a.sequence().kind != b.sequence().kind || a.sequence().kind == Kind::values) return false;
      return equal_items(a.sequence().items, b.sequence().items);
    case Type::dict:
      return a.identity() == b.identity() || equal_dicts(a.dict(), b.dict());
    default:
      return a.identity() == b.identity();
  }
}

// NOLINTNEXTLINE(misc-no-recursion): values are nested at most Limits::value_depth deep
bool less(const Value& a, const Value& b, const char* symbol) {
  spend();
  if (a.is_number() && b.is_number()) return less_numbers(a, b);
  if (a.is_string() && b.is_string()) {
    spend_bytes(static_cast<int64_t>(std::min(a.text().size(), b.text().size())));
    return a.text() < b.text();  // UTF-8 keeps the order of code points
  }
  if (is_list_or_tuple(a) && is_list_or_tuple(b) && a.sequence().kind == b.sequence().kind) {
    const auto &x = a.sequence().items, &y = b.sequence().items;
    for (size_t i = 0; i < x.size() && i < y.size(); i++)
      if (!equal(x[i], y[i])) return less(x[i], y[i], symbol);
    return x.size() < y.size();
  }
  require_order(a, b, symbol);
  return false;
}

bool compare(CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::eq:
      return equal(a, b);
    case CompareOp::ne:
      return !equal(a, b);
    case CompareOp::lt:
      return less(a, b, "<");
    case CompareOp::le:
      require_order(a, b, "<=");
      return equal(a, b) || less(a, b, "<=");
    case CompareOp::gt:
      require_order(a, b, ">");
      return less(b, a, ">");
    case CompareOp::ge:
      require_order(a, b, ">=");
      return equal(a, b) || less(b, a, ">=");
    case CompareOp::in:
      return contains(b, a);
    case CompareOp::not_in:
      return !contains(b, a);
  }
  return false;
}

// NOLINTNEXTLINE(misc-no-recursion): values are nested at most Limits::value_depth deep
bool contains(const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::undefined:
      return false;
    case Type::string:
      if (item.is_undefined()) raise("'in <string>' requires string as left operand, not Undefined");
      if (!item.is_string()) raise("'in <string>' requires string as left operand, not {}", item.type_name());
      return find_text(container.text(), item.text()) != std::string::npos;
    case Type::sequence:
      if (container.sequence().kind == Kind::keys) hash_of(item);
      if (container.sequence().kind == Kind::items) {
        const bool is_pair =
            item.is_sequence() && item.sequence().kind == Kind::tuple && item.sequence().items.size() == 2;
        if (!is_pair) return false;
        hash_of(item.sequence().items[0]);
      }
      for (const Value& candidate : container.sequence().items)
        if (equal(candidate, item)) return true;
      return false;
    case Type::dict:
      return container.dict().find(item) != nullptr;
    case Type::iterator: {
      Iterator& walk = container.iterator();
      while (walk.position < walk.items.size())
        if (equal(walk.items[walk.position++], item)) return true;
      walk.require_end();
      return false;
    }
    default:
      raise("argument of type '{}' is not iterable", container.type_name());
  }
}

// NOLINTNEXTLINE(misc-no-recursion): values are nested at most Limits::value_depth deep
size_t hash_of(const Value& value) {
  spend();
  switch (value.type()) {
    case Type::undefined:
    case Type::none:
      return 7;
    case Type::boolean:
    case Type::integer:
      return std::hash<int64_t>()(value.as_int());
    case Type::big_integer:
      return std::hash<double>()(value.big().real());
    case Type::real: {
      const double d = value.as_real();
      const bool whole = d == std::floor(d) && std::fabs(d) < 9223372036854775808.0;
      return whole ? std::hash<int64_t>()(static_cast<int64_t>(d)) : std::hash<double>()(d);
    }
    case Type::string:
      spend_bytes(static_cast<int64_t>(value.text().size()));
      return std::hash<std::string>()(value.text());
    case Type::sequence: {
      const Sequence& sequence = value.sequence();
      if (sequence.kind == Kind::values) return std::hash<const void*>()(value.identity());
      if (sequence.kind != Kind::tuple && sequence.kind != Kind::range) break;
      size_t hash = 17;
      for (const Value& item : sequence.items) hash = hash * 1000003 + hash_of(item);
      return hash;
    }
    case Type::dict:
      break;
    default:
      return std::hash<const void*>()(value.identity());
  }
  raise("unhashable type: '{}'", value.type_name());
}

Value binary(BinaryOp op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return arithmetic(op, a, b);
  if (op == BinaryOp::modulo && a.is_string()) return Value(format_percent(a, b));
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined()) raise_undefined(b);
  if (op == BinaryOp::add) {
    if (a.is_string() && b.is_string()) return concatenate(a, b);
    if (is_list_or_tuple(a) && is_list_or_tuple(b) && a.sequence().kind == b.sequence().kind) {
      std::vector<Value> items = a.sequence().items;
      items.insert(items.end(), b.sequence().items.begin(), b.sequence().items.end());
      return Value::sequence(std::make_shared<Sequence>(a.sequence().kind, std::move(items)));
    }
    if (a.is_string()) raise("can only concatenate str (not \"{}\") to str", b.type_name());
    if (is_list_or_tuple(a))
      raise("can only concatenate {0} (not \"{1}\") to {0}", a.type_name(), b.type_name());
  }
  if (op == BinaryOp::multiply) {
    const auto repeatable = [](const Value& v) { return v.is_string() || is_list_or_tuple(v); };
    if (repeatable(a) && b.is_integral()) return repeat(a, b.as_int());
    if (repeatable(b) && a.is_integral()) return repeat(b, a.as_int());
    if (repeatable(a) || repeatable(b))
      raise("can't multiply sequence by non-int of type '{}'", repeatable(a) ? b.type_name() : a.type_name());
  }
  raise_operands(symbol_of(op), a, b);
}

Value negate(const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_real()) return Value(-value.as_real());
  if (!value.is_whole()) raise("bad operand type for unary -: '{}'", value.type_name());
  return arithmetic(BinaryOp::subtract, Value(int64_t{0}), value);
}

Value posate(const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_real()) return value;
  if (!value.is_whole()) raise("bad operand type for unary +: '{}'", value.type_name());
  return value.is_big() ? value : Value(value.as_int());
}

void append_text(std::string& out, const Value& value) {
  if (value.is_string()) {
    out += value.text();
    return;
  }
  out += to_text(value);
}

std::string to_text(const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return {};
  return repr(value);
}

// NOLINTNEXTLINE(misc-no-recursion): values are nested at most Limits::value_depth deep
std::string repr(const Value& value) {
  spend();
  switch (value.type()) {
    case Type::undefined:
      return "Undefined";
    case Type::none:
      return "None";
    case Type::boolean:
      return value.as_bool() ? "True" : "False";
    case Type::integer:
      return std::to_string(value.as_int());
    case Type::big_integer:
      return value.big().text();
    case Type::real:
      return python_float_repr(value.as_real());
    case Type::string:
      spend_bytes(8 * static_cast<int64_t>(value.text().size()));
      return value.string().markup ? "Markup(" + repr_text(value.text()) + ")" : repr_text(value.text());
    case Type::sequence:
      return repr_sequence(value.sequence());
    case Type::dict:
      return repr_dict(value.dict());
    case Type::iterator:
      return "<generator object>";
    case Type::name_space:
      return repr_namespace(value.name_space());
    case Type::callable:
      return value.callable().describe();
  }
  return {};
}

std::string repr_text(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    while (i < text.size() && text[i] >= ' ' && text[i] < 0x7F && text[i] != quote && text[i] != '\\') i++;
    if (i > begin) {
      out.append(text, begin, i - begin);
      continue;
    }
    const char32_t c = next_code_point(text, i);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      out += text.substr(begin, i - begin);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  }
  return out + quote;
}

std::string escape_html(std::string_view text) {
  spend_bytes(static_cast<int64_t>(text.size()));
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

Value escaped(const Value& value) {
  if (value.is_markup()) return value;
  return Value::markup(escape_html(to_text(value)));
}

int64_t length(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return 0;
    case Type::string:
      if (value.string().ascii) return static_cast<int64_t>(value.text().size());
      spend_bytes(static_cast<int64_t>(value.text().size()));
      return count_code_points(value.text());
    case Type::sequence:
      return static_cast<int64_t>(value.sequence().items.size());
    case Type::dict:
      return static_cast<int64_t>(value.dict().entries.size());
    default:
      raise("object of type '{}' has no len()", value.type_name());
  }
}

std::vector<Value> items_of(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return {};
    case Type::string: {
      std::vector<Value> items;
      const std::vector<std::string_view> characters = code_points(value.text());
      check_text_size(static_cast<int64_t>(characters.size() * (sizeof(Value) + sizeof(String))));
      for (const std::string_view c : characters) items.emplace_back(c);
      return items;
    }
    case Type::sequence:
      spend(static_cast<int64_t>(value.sequence().items.size()) / 4);
      return value.sequence().items;
    case Type::dict: {
      spend(static_cast<int64_t>(value.dict().entries.size()) / 4);
      std::vector<Value> keys;
      keys.reserve(value.dict().entries.size());
      for (const auto& entry : value.dict().entries) keys.push_back(entry.first);
      return keys;
    }
    case Type::iterator: {
      Iterator& walk = value.iterator();
      std::vector<Value> rest(walk.items.begin() + static_cast<std::ptrdiff_t>(walk.position),
                              walk.items.end());
      walk.position = walk.items.size();
      walk.require_end();
      return rest;
    }
    default:
      raise("'{}' object is not iterable", value.type_name());
  }
}

std::optional<Value> find_item(const Value& value, const Value& key) {
  switch (value.type()) {
    case Type::undefined:
      raise_undefined(value);
    case Type::dict: {
      // An unhashable key is a TypeError, which jinja2 takes for a missing key.
      if (key.is_dict() || (key.is_sequence() && key.sequence().kind != Kind::tuple)) return std::nullopt;
      const Value* found = value.dict().find(key);
      return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
    }
    case Type::sequence: {
      const Kind kind = value.sequence().kind;
      if (kind == Kind::keys || kind == Kind::values || kind == Kind::items) return std::nullopt;
      return key.is_integral() ? item_at(value.sequence().items, key.as_int()) : std::nullopt;
    }
    case Type::string:
      return key.is_integral() ? character_at(value.string(), key.as_int()) : std::nullopt;
    default:
      return std::nullopt;
  }
}

Value slice(const Value& value, const Value& start, const Value& stop, const Value& step_value) {
  if (value.is_undefined()) raise_undefined(value);
  const bool sliceable =
      value.is_string() ||
      (value.is_sequence() && (is_list_or_tuple(value) || value.sequence().kind == Kind::range));
  if (value.is_dict()) raise("unhashable type: 'slice'");
  if (!sliceable) raise("'{}' object is not subscriptable", value.type_name());
  int64_t step = 1;
  if (!step_value.is_none()) {
    if (step_value.is_undefined() || !step_value.is_whole())
      raise("slice indices must be integers or None or have an __index__ method");
    step = clipped_int(step_value);
  }
  if (step == 0) raise("slice step cannot be zero");
  const int64_t size = length(value);
  const bool backwards = step < 0;
  const int64_t first = slice_bound(start, backwards ? size - 1 : 0, size, backwards);
  const int64_t last = slice_bound(stop, backwards ? -1 : size, size, backwards);
  std::vector<int64_t> indexes;
  if (!(value.is_string() && step == 1)) {
    for (int64_t i = first; backwards ? i > last : i < last;) {
      indexes.push_back(i);
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    spend(static_cast<int64_t>(indexes.size()) / 8);
  }
  if (value.is_sequence()) {
    std::vector<Value> items;
    items.reserve(indexes.size());
    for (const int64_t i : indexes) items.push_back(value.sequence().items[static_cast<size_t>(i)]);
    auto part = std::make_shared<Sequence>(value.sequence().kind, std::move(items));
    if (part->kind == Kind::range) {
      const Sequence& whole = value.sequence();
      const bool fits = !step_value.is_big() && !__builtin_mul_overflow(whole.step, step, &part->step) &&
                        !__builtin_mul_overflow(first, whole.step, &part->start) &&
                        !__builtin_add_overflow(part->start, whole.start, &part->start) &&
                        !__builtin_mul_overflow(last, whole.step, &part->stop) &&
                        !__builtin_add_overflow(part->stop, whole.start, &part->stop);
      if (!fits) raise("the step of a range does not fit 64 bits here");
    }
    return Value::sequence(std::move(part));
  }
  const String& text = value.string();
  std::string out;
  if (step == 1) {
    if (first < last) {
      const size_t begin = text.ascii ? static_cast<size_t>(first) : byte_offset(text.text, first);
      const std::string_view rest = std::string_view(text.text).substr(begin);
      const auto count = static_cast<size_t>(last - first);
      out = rest.substr(0, text.ascii ? count : byte_offset(rest, last - first));
    }
  } else if (text.ascii) {
    for (const int64_t i : indexes) out += text.text[static_cast<size_t>(i)];
  } else {
    const std::vector<std::string_view> characters = code_points(text.text);
    for (const int64_t i : indexes) out += characters[static_cast<size_t>(i)];
  }
  spend_bytes(static_cast<int64_t>(text.text.size()));
  return text.markup ? Value::markup(std::move(out)) : Value(std::move(out));
}

size_t find_text(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string::npos;
  if (needle.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  const size_t at = found == nullptr ? std::string::npos
                                     : static_cast<size_t>(static_cast<const char*>(found) - text.data());
  const size_t walked = (found == nullptr ? text.size() : at) - from;
  spend_bytes(static_cast<int64_t>((needle.size() > 1 ? 4 : 1) * walked + needle.size()));
  return at;
}

std::string replace_text(std::string_view text, std::string_view from, std::string_view to, int64_t count) {
  std::string out;
  size_t position = 0;
  if (from.empty()) {
    // Python puts `to` before every character and at the end.
    spend(static_cast<int64_t>(text.size()) / 4);
    while (count != 0) {
      out += to;
      count--;
      if (position >= text.size()) return out;
      const size_t begin = position;
      next_code_point(text, position);
      out += text.substr(begin, position - begin);
      check_text_size(static_cast<int64_t>(out.size()));
    }
    return out += text.substr(position);
  }
  while (count != 0) {
    const size_t at = find_text(text, from, position);
    if (at == std::string::npos) break;
    out += text.substr(position, at - position);
    out += to;
    check_text_size(static_cast<int64_t>(out.size()));
    spend_bytes(static_cast<int64_t>(to.size()));
    position = at + from.size();
    count--;
  }
  return out += text.substr(position);
}

}  // namespace serval::jinja
