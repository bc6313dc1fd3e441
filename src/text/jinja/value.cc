#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

constexpr size_t kIndexFrom = 12;  // entries from which a dict is searched by hash
constexpr int64_t kBytesPerItem = sizeof(Value);

}  // namespace

void hold(Object& object, const Value& item) {
  object.depth = std::max(object.depth, item.depth() + 1);
  if (object.depth > current_limits().value_depth)
    raise("lists and dicts are nested too deeply (limit: {})", current_limits().value_depth);
}

String::String(std::string value, bool is_markup)
    : Object(static_cast<int64_t>(sizeof(String) + value.size())),
      text(std::move(value)),
      markup(is_markup),
      ascii(is_ascii(text)) {
  spend_bytes(static_cast<int64_t>(text.size()));
}

Sequence::Sequence(Kind sequence_kind, std::vector<Value> values)
    : Object(static_cast<int64_t>(sizeof(Sequence)) + static_cast<int64_t>(values.size()) * kBytesPerItem),
      kind(sequence_kind),
      items(std::move(values)) {
  spend(1 + static_cast<int64_t>(items.size()) / 8);
  for (const Value& item : items) hold(*this, item);
}

Iterator::Iterator(std::vector<Value> values)
    : Object(static_cast<int64_t>(sizeof(Iterator)) + static_cast<int64_t>(values.size()) * kBytesPerItem),
      items(std::move(values)) {
  spend(1 + static_cast<int64_t>(items.size()) / 8);
  for (const Value& item : items) hold(*this, item);
}

int64_t Dict::locate(const Value& key, size_t hash) const {
  if (index_.empty()) {
    for (size_t i = 0; i < entries.size(); i++)
      if (equal(entries[i].first, key)) return static_cast<int64_t>(i);
    return -1;
  }
  const auto [begin, end] = index_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    spend();
    if (equal(entries[it->second].first, key)) return static_cast<int64_t>(it->second);
  }
  return -1;
}

const Value* Dict::find(const Value& key) const {
  const int64_t at = locate(key, hash_of(key));
  return at < 0 ? nullptr : &entries[static_cast<size_t>(at)].second;
}

const Value* Dict::find(std::string_view key) const {
  if (!index_.empty()) return find(Value(key));
  for (const auto& [name, value] : entries)
    if (name.is_string() && name.text() == key) return &value;
  return nullptr;
}

void Dict::set(Value key, Value value) {
  const size_t hash = hash_of(key);
  hold(*this, key);
  hold(*this, value);
  if (const int64_t at = locate(key, hash); at >= 0) {
    entries[static_cast<size_t>(at)].second = std::move(value);
    return;
  }
  charge.add(2 * kBytesPerItem + 48);
  spend();
  entries.emplace_back(std::move(key), std::move(value));
  if (!index_.empty()) {
    index_.emplace(hash, entries.size() - 1);
  } else if (entries.size() >= kIndexFrom) {
    for (size_t i = 0; i < entries.size(); i++) index_.emplace(hash_of(entries[i].first), i);
  }
}

Value::Value(std::string text) : type_(Type::string), object_(std::make_shared<String>(std::move(text))) {}
Value::Value(std::shared_ptr<Callable> callable) : type_(Type::callable), object_(std::move(callable)) {}
Value::Value(std::shared_ptr<Namespace> space) : type_(Type::name_space), object_(std::move(space)) {}
Value::Value(std::shared_ptr<Dict> dict) : type_(Type::dict), object_(std::move(dict)) {}

Value Value::markup(std::string text) {
  return string(std::make_shared<String>(std::move(text), true));
}

Value Value::string(std::shared_ptr<String> text) {
  Value v;
  v.type_ = Type::string;
  v.object_ = std::move(text);
  return v;
}

Value Value::undefined(std::string message) {
  Value v;
  v.type_ = Type::undefined;
  v.object_ = std::make_shared<Undefined>(std::move(message));
  return v;
}

Value Value::list(std::vector<Value> items) {
  return sequence(std::make_shared<Sequence>(Sequence::Kind::list, std::move(items)));
}

Value Value::tuple(std::vector<Value> items) {
  return sequence(std::make_shared<Sequence>(Sequence::Kind::tuple, std::move(items)));
}

Value Value::sequence(std::shared_ptr<Sequence> items) {
  Value v;
  v.type_ = Type::sequence;
  v.object_ = std::move(items);
  return v;
}

Value Value::iterator(std::vector<Value> items) {
  Value v;
  v.type_ = Type::iterator;
  v.object_ = std::make_shared<Iterator>(std::move(items));
  return v;
}

Value Value::integer(const BigInteger& number) {
  if (const std::optional<int64_t> small = number.small(); small.has_value()) return Value(*small);
  Value v;
  v.type_ = Type::big_integer;
  v.object_ = std::make_shared<BigInt>(number);
  return v;
}

// NOLINTNEXTLINE(misc-no-recursion): parsed JSON is nested at most 128 deep
Value Value::from_json(const Json& json) {
  if (json.is_null()) return {};
  if (json.is_bool()) return Value(json.as_bool());
  if (json.is_int()) return Value(json.as_int());
  if (json.is_long_int()) return integer(BigInteger::from_digits(json.long_int_digits()));
  if (json.is_double()) return Value(json.as_double());
  if (json.is_string()) return Value(json.as_string());
  if (json.is_array()) {
    std::vector<Value> items;
    items.reserve(json.size());
    for (const Json& item : json.as_array()) items.push_back(from_json(item));
    return list(std::move(items));
  }
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : json.as_object()) dict->set(Value(key), from_json(value));
  return Value(std::move(dict));
}

const BigInteger& Value::big() const {
  return static_cast<const BigInt&>(*object_).number;
}
double Value::as_real() const {
  if (is_real()) return scalar_.real;
  if (!is_big()) return static_cast<double>(as_int());
  const double real = big().real();
  if (std::isinf(real)) raise("int too large to convert to float");
  return real;
}
const String& Value::string() const {
  return static_cast<const String&>(*object_);
}
const std::string& Value::text() const {
  return static_cast<const String&>(*object_).text;
}
const Sequence& Value::sequence() const {
  return static_cast<const Sequence&>(*object_);
}
const Dict& Value::dict() const {
  return static_cast<const Dict&>(*object_);
}
Iterator& Value::iterator() const {
  return static_cast<Iterator&>(*object_);
}
Namespace& Value::name_space() const {
  return static_cast<Namespace&>(*object_);
}
Callable& Value::callable() const {
  return static_cast<Callable&>(*object_);
}
const Undefined& Value::undefined() const {
  return static_cast<const Undefined&>(*object_);
}

bool Value::truthy() const {
  switch (type_) {
    case Type::undefined:
    case Type::none:
      return false;
    case Type::boolean:
      return scalar_.boolean;
    case Type::integer:
      return scalar_.integer != 0;
    case Type::big_integer:
      return true;
    case Type::real:
      return scalar_.real != 0;
    case Type::string:
      return !text().empty();
    case Type::sequence:
      return !sequence().items.empty();
    case Type::dict:
      return !dict().entries.empty();
    case Type::iterator:
    case Type::name_space:
    case Type::callable:
      return true;
  }
  return true;
}

bool Value::is_markup() const {
  return is_string() && string().markup;
}

std::string Value::type_name() const {
  switch (type_) {
    case Type::undefined:
      return "Undefined";
    case Type::none:
      return "NoneType";
    case Type::boolean:
      return "bool";
    case Type::integer:
    case Type::big_integer:
      return "int";
    case Type::real:
      return "float";
    case Type::string:
      return string().markup ? "Markup" : "str";
    case Type::sequence:
      switch (sequence().kind) {
        case Sequence::Kind::list:
          return "list";
        case Sequence::Kind::tuple:
          return "tuple";
        case Sequence::Kind::range:
          return "range";
        case Sequence::Kind::keys:
          return "dict_keys";
        case Sequence::Kind::values:
          return "dict_values";
        case Sequence::Kind::items:
          return "dict_items";
      }
      return "list";
    case Type::dict:
      return "dict";
    case Type::iterator:
      return "generator";
    case Type::name_space:
      return "Namespace";
    case Type::callable:
      return "function";
  }
  return "object";
}

std::string Value::object_name() const {
  return is_none() ? "None" : type_name() + " object";
}

}  // namespace serval::jinja
