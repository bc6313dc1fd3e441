// What Python's operators and basic functions do to values: ==, <, in, +, %, [...], str(), repr(), len(),
// iter(). Failures raise with Python's wording.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "text/jinja/value.h"

namespace serval::jinja {

enum class BinaryOp : uint8_t { add, subtract, multiply, divide, floor_divide, modulo, power };
enum class CompareOp : uint8_t { eq, ne, lt, le, gt, ge, in, not_in };

bool equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b, const char* symbol = "<");
bool compare(CompareOp op, const Value& a, const Value& b);
bool contains(const Value& container, const Value& item);
size_t hash_of(const Value& value);  // raises where Python finds the value unhashable

Value binary(BinaryOp op, const Value& a, const Value& b);
Value negate(const Value& value);
Value posate(const Value& value);

std::string to_text(const Value& value);  // str(value)
void append_text(std::string& out, const Value& value);
std::string repr(const Value& value);
std::string repr_text(std::string_view text);
std::string escape_html(std::string_view text);
Value escaped(const Value& value);  // markupsafe.escape

int64_t length(const Value& value);
// All items; an iterator is left empty.
std::vector<Value> items_of(const Value& value);

// value[key], absent where the key is; raises where Python raises anything but a missing key or a wrong type.
std::optional<Value> find_item(const Value& value, const Value& key);
Value slice(const Value& value, const Value& start, const Value& stop, const Value& step);

// An int out of bool or int; raises "'str' object cannot be interpreted as an integer".
int64_t require_int(const Value& value);
int64_t clipped_int(const Value& value);  // one beyond 64 bits is as far as one can count
const std::string& require_string(const Value& value, const char* what);
[[noreturn]] void raise_undefined(const Value& value);  // the use of an undefined value

// Position of `needle` in `text` from byte `from` on, or npos; its work is charged.
size_t find_text(std::string_view text, std::string_view needle, size_t from = 0);
std::string replace_text(std::string_view text, std::string_view from, std::string_view to, int64_t count);
// Refuses what would be a string of more bytes than the memory left.
void check_text_size(int64_t bytes, int64_t times = 1);
double to_double(const Value& number);

}  // namespace serval::jinja
