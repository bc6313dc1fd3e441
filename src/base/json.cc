#include "base/json.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <unordered_set>

#include "base/error.h"

namespace serval {
namespace {

constexpr size_t kMaxDepth = 128;

// Integers that simdjson refuses: which number of the text it is, counted from 0, and its digits.
using LongIntegers = std::vector<std::pair<size_t, std::string>>;

class Converter {
 public:
  Converter(const std::string& where, const LongIntegers& long_integers)
      : where_(where), next_(long_integers.begin()), end_(long_integers.end()) {}

  Json convert(const simdjson::dom::element& element) {
    using simdjson::dom::element_type;
    switch (element.type()) {
      case element_type::ARRAY: {
        Json::Array result;
        const simdjson::dom::array items = element;
        for (const auto item : items) result.push_back(convert(item));
        return Json(std::move(result));
      }
      case element_type::OBJECT:
        return convert_object(element);
      case element_type::INT64:
        if (const size_t number = numbers_++; next_ != end_ && next_->first == number)
          return Json::long_int((next_++)->second);
        return Json(int64_t(element));
      case element_type::UINT64:
        numbers_++;
        return Json::long_int(std::to_string(uint64_t(element)));
      case element_type::DOUBLE:
        numbers_++;
        return Json(double(element));
      case element_type::STRING:
        return Json(std::string_view(element));
      case element_type::BOOL:
        return Json(bool(element));
      case element_type::NULL_VALUE:
        return Json();
    }
    return Json();
  }

 private:
  Json convert_object(const simdjson::dom::object& members) {
    Json::Object result;
    std::unordered_set<std::string_view> seen;
    // Few keys are compared one by one: a set of its own for each small object takes most of the time.
    const bool few = members.size() <= 8;
    const auto known = [&](std::string_view key) {
      if (!few) return !seen.insert(key).second;
      return std::any_of(result.begin(), result.end(),
                         [&](const auto& member) { return member.first == key; });
    };
    for (const auto field : members) {
      if (known(field.key)) fail("{}: not valid JSON: the key '{}' appears twice", where_, field.key);
      result.emplace_back(std::string(field.key), convert(field.value));
    }
    return Json(std::move(result));
  }

  const std::string& where_;
  LongIntegers::const_iterator next_, end_;
  size_t numbers_ = 0;
};

bool is_too_long_integer(std::string_view number) {
  if (number.find_first_of("+.eE") != std::string_view::npos) return false;
  const std::string_view digits = number.substr(number.starts_with('-') ? 1 : 0);
  if (digits.empty() || digits[0] == '0' || digits.find('-') != std::string_view::npos) return false;
  const char* end = number.data() + number.size();
  int64_t integer = 0;
  uint64_t natural = 0;
  return std::from_chars(number.data(), end, integer).ec == std::errc::result_out_of_range &&
         std::from_chars(number.data(), end, natural).ec != std::errc();
}

// simdjson refuses integers beyond 64 bits, but real files hold them (a "model_max_length" of 30 digits).
// They are put aside, and a 0 stands for each.
std::string without_long_integers(std::string_view text, const std::string& where, LongIntegers& found) {
  constexpr std::string_view kOfNumbers = "0123456789+-.eE";
  constexpr size_t kMostDigits = 4300;  // as Python reads
  std::string result;
  bool in_string = false;
  size_t numbers = 0;
  for (size_t i = 0; i < text.size();) {
    const bool starts = !in_string && (text[i] == '-' || (text[i] >= '0' && text[i] <= '9'));
    if (starts) {
      const size_t end = std::min(text.find_first_not_of(kOfNumbers, i), text.size());
      const std::string_view number = text.substr(i, end - i);
      if (is_too_long_integer(number)) {
        if (number.size() - (number[0] == '-' ? 1 : 0) > kMostDigits)
          fail("{}: not valid JSON: an integer of more than {} digits", where, kMostDigits);
        found.emplace_back(numbers, number);
        result += '0';
      } else {
        result += number;
      }
      numbers++;
      i = end;
      continue;
    }
    const bool escape = in_string && text[i] == '\\' && i + 1 < text.size();
    if (text[i] == '"') in_string = !in_string;
    result += text.substr(i, escape ? 2 : 1);
    i += escape ? 2 : 1;
  }
  return result;
}

simdjson::error_code parse_document(simdjson::dom::parser& parser, std::string_view text,
                                    simdjson::dom::element& root) {
  if (parser.capacity() < text.size() || parser.max_depth() != kMaxDepth)
    if (const auto error = parser.allocate(std::max<size_t>(text.size(), 4096), kMaxDepth)) return error;
  return parser.parse(simdjson::padded_string(text)).get(root);
}

// Rows of a dataset are parsed by the million: their parser is kept. A large text gets one of its own, whose
// memory goes with it.
constexpr size_t kKeptParserBytes = size_t{1} << 20;
simdjson::dom::parser& kept_parser() {
  thread_local simdjson::dom::parser parser;
  return parser;
}

void write(const Json& value, int indent, int depth, std::string& out) {
  const auto new_line = [&](int level) {
    if (indent >= 0) {
      out += '\n';
      out.append(static_cast<size_t>(level) * static_cast<size_t>(indent), ' ');
    }
  };
  const char* separator = indent >= 0 ? "," : ", ";
  if (value.is_null()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.as_bool() ? "true" : "false";
  } else if (value.is_int()) {
    out += std::to_string(value.as_int());
  } else if (value.is_long_int()) {
    out += value.long_int_digits();
  } else if (value.is_double()) {
    const double number = value.as_double();
    out += std::isnan(number)   ? "NaN"
           : std::isinf(number) ? (number > 0 ? "Infinity" : "-Infinity")
                                : python_float_repr(number);
  } else if (value.is_string()) {
    out += json_quote(value.as_string());
  } else if (value.is_array()) {
    const auto& items = value.as_array();
    out += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += separator;
      new_line(depth + 1);
      write(items[i], indent, depth + 1, out);
    }
    if (!items.empty()) new_line(depth);
    out += ']';
  } else {
    const auto& members = value.as_object();
    out += '{';
    for (size_t i = 0; i < members.size(); ++i) {
      if (i > 0) out += separator;
      new_line(depth + 1);
      out += json_quote(members[i].first);
      out += ": ";
      write(members[i].second, indent, depth + 1, out);
    }
    if (!members.empty()) new_line(depth);
    out += '}';
  }
}

[[noreturn]] void wrong_type(const Json& value, const char* expected) {
  std::string text = value.dump();
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  fail("expected {} but found {} ({})", expected, text, value.type_name());
}

}  // namespace

Json Json::parse(std::string_view text, const std::string& where) {
  simdjson::dom::parser own;
  simdjson::dom::parser& parser = text.size() <= kKeptParserBytes ? kept_parser() : own;
  simdjson::dom::element root;
  auto error = parse_document(parser, text, root);
  LongIntegers long_integers;
  if (error == simdjson::NUMBER_ERROR)
    error = parse_document(parser, without_long_integers(text, where, long_integers), root);
  if (error == simdjson::CAPACITY || error == simdjson::MEMALLOC)
    fail("{}: {} bytes of JSON are too many", where, text.size());
  if (error != simdjson::SUCCESS) fail("{}: not valid JSON: {}", where, simdjson::error_message(error));
  return Converter(where, long_integers).convert(root);
}

const char* Json::type_name() const {
  static constexpr const char* names[] = {"null",   "boolean", "integer", "number",
                                          "string", "array",   "object",  "integer beyond 64 bits"};
  return names[value_.index()];
}

bool Json::as_bool() const {
  if (const auto* v = std::get_if<bool>(&value_)) return *v;
  wrong_type(*this, "true or false");
}
int64_t Json::as_int() const {
  if (const auto* v = std::get_if<int64_t>(&value_)) return *v;
  wrong_type(*this, "an integer");
}
double Json::as_double() const {
  if (const auto* v = std::get_if<double>(&value_)) return *v;
  if (const auto* v = std::get_if<int64_t>(&value_)) return static_cast<double>(*v);
  // The nearest one; strtod, unlike from_chars, gives infinity where there is none.
  if (const auto* v = std::get_if<LongInt>(&value_)) return std::strtod(v->digits.c_str(), nullptr);
  wrong_type(*this, "a number");
}
const std::string& Json::long_int_digits() const {
  if (const auto* v = std::get_if<LongInt>(&value_)) return v->digits;
  wrong_type(*this, "an integer beyond 64 bits");
}
const std::string& Json::as_string() const {
  if (const auto* v = std::get_if<std::string>(&value_)) return *v;
  wrong_type(*this, "a string");
}
const Json::Array& Json::as_array() const {
  if (const auto* v = std::get_if<Array>(&value_)) return *v;
  wrong_type(*this, "a list");
}
const Json::Object& Json::as_object() const {
  if (const auto* v = std::get_if<Object>(&value_)) return *v;
  wrong_type(*this, "an object");
}
Json::Array& Json::as_array() {
  return const_cast<Array&>(std::as_const(*this).as_array());
}
Json::Object& Json::as_object() {
  return const_cast<Object&>(std::as_const(*this).as_object());
}

const Json* Json::find(std::string_view key) const {
  const auto* members = std::get_if<Object>(&value_);
  if (members == nullptr) return nullptr;
  for (const auto& [name, value] : *members)
    if (name == key) return &value;
  return nullptr;
}
Json* Json::find(std::string_view key) {
  return const_cast<Json*>(std::as_const(*this).find(key));
}

const Json& Json::at(std::string_view key) const {
  if (const Json* value = find(key)) return *value;
  fail("the key '{}' is missing", key);
}

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = Object{};
  if (Json* old = find(key)) {
    *old = std::move(value);
    return *old;
  }
  return as_object().emplace_back(std::string(key), std::move(value)).second;
}

bool Json::erase(std::string_view key) {
  auto& members = as_object();
  for (auto it = members.begin(); it != members.end(); ++it) {
    if (it->first == key) {
      members.erase(it);
      return true;
    }
  }
  return false;
}

void Json::push_back(Json value) {
  if (is_null()) value_ = Array{};
  as_array().push_back(std::move(value));
}

size_t Json::size() const {
  if (is_array()) return as_array().size();
  if (is_object()) return as_object().size();
  return 0;
}

std::string Json::dump(int indent) const {
  std::string out;
  write(*this, indent, 0, out);
  return out;
}

std::string python_float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific);
  const std::string text(digits, end.ptr);
  const size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  // Python switches to the scientific form outside 1e-4 <= |x| < 1e16.
  if (value != 0 && (exponent < -4 || exponent >= 16)) {
    std::string exponent_text = std::to_string(std::abs(exponent));
    if (exponent_text.size() < 2) exponent_text.insert(0, 1, '0');
    return text.substr(0, e) + (exponent < 0 ? "e-" : "e+") + exponent_text;
  }
  char fixed[64];
  const auto fixed_end = std::to_chars(fixed, fixed + sizeof fixed, value, std::chars_format::fixed);
  std::string result(fixed, fixed_end.ptr);
  if (result.find('.') == std::string::npos) result += ".0";
  return result;
}

std::string json_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        else
          out += c;
    }
  }
  return out + '"';
}

}  // namespace serval
