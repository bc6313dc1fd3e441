// A value of the template language: what Python's None, bool, int, float, str, list, tuple, dict, ... are to
// jinja2, and its Undefined. Values are cheap to copy and share their content. As in jinja2's immutable
// sandbox a template cannot change a list or a dict; only a namespace changes.
//
//   Value list = Value::list({Value("a"), Value(int64_t{1})});
//   Value name = Value::undefined("'name' is undefined");
//   if (list.is_sequence()) for (const Value& item : list.sequence().items) ...
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/jinja/big_integer.h"
#include "text/jinja/meter.h"

namespace serval::jinja {

enum class Type : uint8_t {
  undefined,
  none,
  boolean,
  integer,
  big_integer,  // an int beyond 64 bits; one that fits is never held so
  real,
  string,
  sequence,  // list, tuple, range and the views of a dict
  dict,
  iterator,  // what a lazy filter gives: it can be walked once
  name_space,
  callable,  // function, method, macro, loop object
};

struct Object {
  explicit Object(int64_t bytes) : charge(bytes) {}
  virtual ~Object() = default;
  MemoryCharge charge;
  int depth = 1;  // of nested values; bounded, so that walking or freeing a value never exhausts the stack
};

// Notes in `object` that it holds `item`; raises where values are nested too deeply.
void hold(Object& object, const class Value& item);

struct BigInt;
struct String;
struct Sequence;
struct Dict;
struct Iterator;
struct Namespace;
struct Callable;
struct Undefined;

class Value {
 public:
  Value() = default;  // none
  explicit Value(bool value) : type_(Type::boolean) { scalar_.boolean = value; }
  explicit Value(int64_t value) : type_(Type::integer) { scalar_.integer = value; }
  explicit Value(double value) : type_(Type::real) { scalar_.real = value; }
  explicit Value(const char* text) : Value(std::string(text)) {}
  explicit Value(std::string_view text) : Value(std::string(text)) {}
  explicit Value(std::string text);
  explicit Value(std::shared_ptr<Callable> callable);
  explicit Value(std::shared_ptr<Namespace> space);
  explicit Value(std::shared_ptr<Dict> dict);
  static Value markup(std::string text);  // a string that is HTML already
  static Value string(std::shared_ptr<String> text);
  static Value undefined(std::string message);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value sequence(std::shared_ptr<Sequence> items);
  static Value iterator(std::vector<Value> items);
  static Value integer(const BigInteger& number);
  static Value from_json(const Json& json);

  Type type() const { return type_; }
  bool is_undefined() const { return type_ == Type::undefined; }
  bool is_none() const { return type_ == Type::none; }
  bool is_bool() const { return type_ == Type::boolean; }
  bool is_int() const { return type_ == Type::integer; }
  bool is_real() const { return type_ == Type::real; }
  bool is_big() const { return type_ == Type::big_integer; }
  bool is_integral() const { return is_int() || is_bool(); }  // of 64 bits; Python's bool is an int
  bool is_whole() const { return is_integral() || is_big(); }
  bool is_number() const { return is_whole() || is_real(); }
  bool is_string() const { return type_ == Type::string; }
  bool is_markup() const;  // a string that is HTML already
  bool is_sequence() const { return type_ == Type::sequence; }
  bool is_dict() const { return type_ == Type::dict; }
  bool is_iterator() const { return type_ == Type::iterator; }
  bool is_namespace() const { return type_ == Type::name_space; }
  bool is_callable() const { return type_ == Type::callable; }

  // Each is to be called on a value of that type only.
  bool as_bool() const { return scalar_.boolean; }
  int64_t as_int() const { return is_bool() ? static_cast<int64_t>(scalar_.boolean) : scalar_.integer; }
  const BigInteger& big() const;
  double as_real() const;  // raises for an integer that is larger than any double
  const String& string() const;
  const std::string& text() const;
  const Sequence& sequence() const;
  const Dict& dict() const;
  Iterator& iterator() const;
  Namespace& name_space() const;
  Callable& callable() const;
  const Undefined& undefined() const;
  const Object* identity() const { return object_.get(); }

  bool truthy() const;
  std::string type_name() const;    // Python's: "str", "dict", "NoneType", ...
  std::string object_name() const;  // as in jinja2's messages: "dict object", "None"
  int depth() const { return object_ != nullptr ? object_->depth : 0; }

 private:
  Type type_ = Type::none;
  union {
    bool boolean;
    int64_t integer = 0;
    double real;
  } scalar_;
  std::shared_ptr<Object> object_;
};

// Ranges of a string's bytes that came out of {% generation %}; they travel with the text that a macro
// returns.
struct TextRange {
  int64_t begin = 0, end = 0;
  int64_t message = -1;  // which of `messages` was being written, -1 where that cannot be told
};

struct BigInt : Object {
  explicit BigInt(BigInteger value) : Object(2048), number(std::move(value)) {}
  BigInteger number;
};

struct String : Object {
  explicit String(std::string value, bool is_markup = false);
  std::string text;
  bool markup = false;
  bool ascii = true;
  std::vector<TextRange> generated;
};

struct Sequence : Object {
  enum class Kind : uint8_t { list, tuple, range, keys, values, items };
  Sequence(Kind sequence_kind, std::vector<Value> values);
  Kind kind;
  std::vector<Value> items;
  int64_t start = 0, stop = 0, step = 1;  // of a range
  bool is_group = false;                  // a (grouper, list) pair of the filter groupby
};

// Keeps insertion order.
struct Dict : Object {
  Dict() : Object(sizeof(Dict)) {}
  const Value* find(const Value& key) const;  // nullptr where absent
  const Value* find(std::string_view key) const;
  void set(Value key, Value value);  // raises for a key that cannot be hashed
  std::vector<std::pair<Value, Value>> entries;

 private:
  int64_t locate(const Value& key, size_t hash) const;
  std::unordered_multimap<size_t, size_t> index_;  // filled once the dict is too large to walk
};

struct Iterator : Object {
  explicit Iterator(std::vector<Value> values);
  std::vector<Value> items;
  size_t position = 0;
  std::optional<TemplateError> error;  // what asking for more than the items raises
  void require_end() const {
    if (error.has_value()) throw TemplateError(*error);
  }
};

struct Undefined : Object {
  explicit Undefined(std::string text) : Object(sizeof(Undefined) + 64), message(std::move(text)) {}
  std::string message;  // what its use raises
};

struct Namespace : Object {
  Namespace() : Object(sizeof(Namespace)) {}
  std::shared_ptr<Dict> attributes = std::make_shared<Dict>();
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

class Interpreter;

struct Callable : Object, std::enable_shared_from_this<Callable> {
  explicit Callable(std::string callable_name) : Object(128), name(std::move(callable_name)) {}
  virtual Value call(Interpreter& interpreter, const Arguments& arguments) = 0;
  virtual Value attribute(std::string_view) { return Value::undefined(""); }
  virtual bool has_attribute(std::string_view) const { return false; }
  virtual std::string describe() const { return "<function " + name + ">"; }
  virtual bool can_be_called() const { return true; }  // false for an object that only has methods
  std::string name;
};

}  // namespace serval::jinja
