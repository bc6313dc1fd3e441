// The tests of `is`: {% if x is defined %}.
#include <algorithm>
#include <array>

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/parser.h"
#include "text/jinja/registry.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

using Test = bool (*)(Interpreter&, const Value&, const Arguments&);

// A test of the value alone.
template <bool (*Is)(const Value&)>
bool plain(Interpreter&, const Value& value, const Arguments& arguments) {
  bind("test", arguments, {}, 0);
  return Is(value);
}

bool is_in(Interpreter&, const Value& value, const Arguments& arguments) {
  return compare(CompareOp::in, value, bind("in", arguments, {"seq"}, 1).value(0));
}

template <CompareOp Op>
bool compared(Interpreter&, const Value& value, const Arguments& arguments) {
  if (!arguments.keyword.empty()) raise("the test takes no keyword arguments");
  return compare(Op, value, bind("test", arguments, {"other"}, 1).value(0));
}

int64_t remainder(const Value& value, const Value& divisor) {
  const Value rest = binary(BinaryOp::modulo, value, divisor);
  if (!rest.is_number()) return 2;  // '%d' % 2 is a text
  if (rest.is_big()) return 2;
  return rest.is_integral() ? rest.as_int() : (rest.as_real() == 0 ? 0 : rest.as_real() == 1 ? 1 : 2);
}

bool is_divisible(Interpreter&, const Value& value, const Arguments& arguments) {
  return remainder(value, bind("divisibleby", arguments, {"num"}, 1).value(0)) == 0;
}

bool is_same(Interpreter&, const Value& value, const Arguments& arguments) {
  const Value other = bind("sameas", arguments, {"other"}, 1).value(0);
  if (value.type() != other.type()) return false;
  if (value.is_none() || value.is_number()) return equal(value, other);
  return value.identity() == other.identity();
}

bool is_even(const Value& v) {
  return remainder(v, Value(int64_t{2})) == 0;
}
bool is_odd(const Value& v) {
  return remainder(v, Value(int64_t{2})) == 1;
}
bool is_defined(const Value& v) {
  return !v.is_undefined();
}
bool is_undefined(const Value& v) {
  return v.is_undefined();
}
bool is_none(const Value& v) {
  return v.is_none();
}
bool is_boolean(const Value& v) {
  return v.is_bool();
}
bool is_true(const Value& v) {
  return v.is_bool() && v.as_bool();
}
bool is_false(const Value& v) {
  return v.is_bool() && !v.as_bool();
}
bool is_integer(const Value& v) {
  return v.is_int() || v.is_big();
}
bool is_float(const Value& v) {
  return v.is_real();
}
bool is_number(const Value& v) {
  return v.is_number();
}
bool is_string(const Value& v) {
  return v.is_string();
}
bool is_mapping(const Value& v) {
  return v.is_dict();
}
bool is_callable(const Value& v) {
  return (v.is_callable() && v.callable().can_be_called()) || v.is_undefined();
}
bool is_escaped(const Value& v) {
  return v.is_markup();
}
bool is_iterable(const Value& v) {
  return v.is_string() || v.is_sequence() || v.is_dict() || v.is_iterator() || v.is_undefined();
}
// What has a length and items; Undefined raises when asked for an item only later.
bool is_sequence(const Value& v) {
  if (v.is_sequence())
    return v.sequence().kind == Sequence::Kind::list || v.sequence().kind == Sequence::Kind::tuple ||
           v.sequence().kind == Sequence::Kind::range;
  return v.is_string() || v.is_dict() || v.is_undefined();
}

bool has_case(const Value& v, bool (*wanted)(char32_t), bool (*other)(char32_t)) {
  const std::string text = to_text(v);
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (other(c) || is_title(c)) return false;
    any = any || wanted(c);
  }
  return any;
}
bool is_lower_text(const Value& v) {
  return has_case(v, is_lower, is_upper);
}
bool is_upper_text(const Value& v) {
  return has_case(v, is_upper, is_lower);
}
bool names_filter(const Value& v) {
  hash_of(v);  // as a lookup in a dict would
  return v.is_string() && is_filter(v.text());
}
bool names_test(const Value& v) {
  hash_of(v);
  return v.is_string() && is_test(v.text());
}

constexpr std::array kTests = std::to_array<TestEntry>({
    {"!=", compared<CompareOp::ne>},
    {"<", compared<CompareOp::lt>},
    {"<=", compared<CompareOp::le>},
    {"==", compared<CompareOp::eq>},
    {">", compared<CompareOp::gt>},
    {">=", compared<CompareOp::ge>},
    {"boolean", plain<is_boolean>},
    {"callable", plain<is_callable>},
    {"defined", plain<is_defined>},
    {"divisibleby", is_divisible},
    {"eq", compared<CompareOp::eq>},
    {"equalto", compared<CompareOp::eq>},
    {"escaped", plain<is_escaped>},
    {"even", plain<is_even>},
    {"false", plain<is_false>},
    {"filter", plain<names_filter>},
    {"float", plain<is_float>},
    {"ge", compared<CompareOp::ge>},
    {"greaterthan", compared<CompareOp::gt>},
    {"gt", compared<CompareOp::gt>},
    {"in", is_in},
    {"integer", plain<is_integer>},
    {"iterable", plain<is_iterable>},
    {"le", compared<CompareOp::le>},
    {"lessthan", compared<CompareOp::lt>},
    {"lower", plain<is_lower_text>},
    {"lt", compared<CompareOp::lt>},
    {"mapping", plain<is_mapping>},
    {"ne", compared<CompareOp::ne>},
    {"none", plain<is_none>},
    {"number", plain<is_number>},
    {"odd", plain<is_odd>},
    {"sameas", is_same},
    {"sequence", plain<is_sequence>},
    {"string", plain<is_string>},
    {"test", plain<names_test>},
    {"true", plain<is_true>},
    {"undefined", plain<is_undefined>},
    {"upper", plain<is_upper_text>},
});

}  // namespace

const TestEntry* find_test(std::string_view name) {
  const auto* at =
      std::find_if(kTests.begin(), kTests.end(), [&](const TestEntry& t) { return t.name == name; });
  return at != kTests.end() ? at : nullptr;
}

bool is_test(std::string_view name) {
  return find_test(name) != nullptr;
}

}  // namespace serval::jinja
