// The functions that every chat template can call.
#include <array>
#include <ctime>

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"

namespace serval::jinja {
namespace {

Value range(Interpreter&, const Arguments& arguments) {
  if (!arguments.keyword.empty()) raise("range() takes no keyword arguments");
  const auto& given = arguments.positional;
  if (given.empty()) raise("range expected at least 1 argument, got 0");
  if (given.size() > 3) raise("range expected at most 3 arguments, got {}", given.size());
  const int64_t start = given.size() > 1 ? require_int(given[0]) : 0;
  const int64_t stop = require_int(given[given.size() > 1 ? 1 : 0]);
  const int64_t step = given.size() > 2 ? require_int(given[2]) : 1;
  if (step == 0) raise("range() arg 3 must not be zero");
  const double span = (static_cast<double>(stop) - static_cast<double>(start)) / static_cast<double>(step);
  if (span > static_cast<double>(current_limits().range_items))
    raise("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).",
          current_limits().range_items);
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  auto sequence = std::make_shared<Sequence>(Sequence::Kind::range, std::move(items));
  sequence->start = start;
  sequence->stop = stop;
  sequence->step = step;
  return Value::sequence(std::move(sequence));
}

// The content of dict(...) and namespace(...): a mapping or pairs, then keywords.
std::shared_ptr<Dict> make_dict(const char* function, const Arguments& arguments) {
  auto dict = std::make_shared<Dict>();
  if (arguments.positional.size() > 1)
    raise("{} expected at most 1 argument, got {}", function, arguments.positional.size());
  if (!arguments.positional.empty()) {
    const Value& first = arguments.positional[0];
    if (first.is_undefined()) raise_undefined(first);
    if (first.is_dict()) {
      for (const auto& [key, value] : first.dict().entries) dict->set(key, value);
    } else {
      int64_t i = 0;
      for (const Value& pair : items_of(first)) {
        const std::vector<Value> parts = items_of(pair);
        if (parts.size() != 2)
          raise("dictionary update sequence element #{} has length {}; 2 is required", i, parts.size());
        dict->set(parts[0], parts[1]);
        i++;
      }
    }
  }
  for (const auto& [name, value] : arguments.keyword) dict->set(Value(name), value);
  return dict;
}

Value dict(Interpreter&, const Arguments& arguments) {
  return Value(make_dict("dict", arguments));
}

// dict(...), and dict.fromkeys(keys, value).
struct DictType : Callable {
  DictType() : Callable("dict") {}
  Value call(Interpreter& interpreter, const Arguments& arguments) override {
    return dict(interpreter, arguments);
  }
  bool has_attribute(std::string_view what) const override { return what == "fromkeys"; }
  Value attribute(std::string_view) override {
    return make_function("fromkeys", [](Interpreter&, const Arguments& arguments) {
      if (!arguments.keyword.empty()) raise("dict.fromkeys() takes no keyword arguments");
      const Bound b = bind("fromkeys", arguments, {"iterable", "value"}, 1);
      auto result = std::make_shared<Dict>();
      for (const Value& key : items_of(b.value(0))) result->set(key, b.value(1));
      return Value(std::move(result));
    });
  }
};

Value unavailable(Interpreter&, const Arguments&) {
  raise("lipsum() gives another text each time, which a chat template must not");
}

Value name_space(Interpreter& interpreter, const Arguments& arguments) {
  std::shared_ptr<Dict> attributes = make_dict("namespace", arguments);
  for (const auto& [key, value] : attributes->entries)
    if (key.is_string() && !key.text().empty() && key.text()[0] == '_')
      raise("Chat templates cannot store underscore-prefixed attributes on a namespace, but got {}",
            repr(key));
  Value space = interpreter.make_namespace();
  space.name_space().attributes = std::move(attributes);
  return space;
}

Value raise_exception(Interpreter&, const Arguments& arguments) {
  const Bound b = bind("raise_exception", arguments, {"message"}, 1);
  throw TemplateError(to_text(b.value(0)));
}

// A date without a time zone, as Python's here: its name and offset are empty. A NUL ends the format.
std::string without_zone(std::string_view format) {
  std::string out;
  format = format.substr(0, format.find('\0'));
  for (size_t i = 0; i < format.size(); i++) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    const char what = format[++i];
    if (what == 'f') {
      out += "000000";
    } else if (what == ':' && i + 1 < format.size() && format[i + 1] == 'z') {
      i++;
    } else if (what != 'z' && what != 'Z') {
      out += '%';
      out += what;
    }
  }
  return out;
}

Value strftime_now(Interpreter& interpreter, const Arguments& arguments) {
  const Bound b = bind("strftime_now", arguments, {"format"}, 1);
  const std::string format = without_zone(b.text(0, "", "strftime() argument 1"));
  const auto seconds = static_cast<std::time_t>(interpreter.now());
  std::tm local{};
  if (localtime_r(&seconds, &local) == nullptr) raise("the time {} has no date", seconds);
  if (format.size() > 1024) raise("strftime_now: the format is too long");
  // The mark tells an empty result from a buffer that was too small.
  std::array<char, 16384> buffer{};
  const size_t n = std::strftime(buffer.data(), buffer.size(), (format + "|").c_str(), &local);
  if (n == 0) raise("strftime_now: the result is too long");
  return Value(std::string(buffer.data(), n - 1));
}

// cycler("odd", "even"): next() gives one after the other.
class Cycler : public Callable {
 public:
  explicit Cycler(std::vector<Value> items) : Callable("cycler"), items_(std::move(items)) {
    for (const Value& item : items_) hold(*this, item);
  }
  Value call(Interpreter&, const Arguments&) override { raise("'Cycler' object is not callable"); }
  bool can_be_called() const override { return false; }
  bool has_attribute(std::string_view attribute_name) const override {
    return attribute_name == "next" || attribute_name == "reset" || attribute_name == "current";
  }
  Value attribute(std::string_view attribute_name) override {
    if (attribute_name == "current") return items_[position_];
    return Value(std::make_shared<Step>(std::static_pointer_cast<Cycler>(shared_from_this()),
                                        attribute_name == "next"));
  }

 private:
  struct Step : Callable {
    Step(std::shared_ptr<Cycler> of, bool forward)
        : Callable(forward ? "next" : "reset"), cycler(std::move(of)), moves(forward) {
      hold(*this, Value(std::shared_ptr<Callable>(cycler)));
    }
    Value call(Interpreter&, const Arguments&) override {
      const size_t at = cycler->position_;
      cycler->position_ = moves ? (at + 1) % cycler->items_.size() : 0;
      return moves ? cycler->items_[at] : Value();
    }
    std::shared_ptr<Cycler> cycler;
    bool moves;
  };

  std::vector<Value> items_;
  size_t position_ = 0;
};

Value cycler(Interpreter&, const Arguments& arguments) {
  if (arguments.positional.empty()) raise("at least one item has to be provided");
  return Value(std::shared_ptr<Callable>(std::make_shared<Cycler>(arguments.positional)));
}

// joiner(", "): empty the first time it is called.
struct Joiner : Callable {
  explicit Joiner(Value text) : Callable("joiner"), separator(std::move(text)) { hold(*this, separator); }
  Value call(Interpreter&, const Arguments&) override {
    return std::exchange(used, true) ? separator : Value("");
  }
  Value separator;
  bool used = false;
};

Value joiner(Interpreter&, const Arguments& arguments) {
  const Bound b = bind("joiner", arguments, {"sep"}, 0);
  return Value(std::shared_ptr<Callable>(std::make_shared<Joiner>(b.value(0, Value(", ")))));
}

}  // namespace

std::vector<std::pair<std::string, Value>> global_functions() {
  std::vector<std::pair<std::string, Value>> functions;
  const auto add = [&](const char* name, Value (*function)(Interpreter&, const Arguments&)) {
    functions.emplace_back(name, make_function(name, function));
  };
  add("range", range);
  functions.emplace_back("dict", Value(std::shared_ptr<Callable>(std::make_shared<DictType>())));
  add("lipsum", unavailable);
  add("namespace", name_space);
  add("raise_exception", raise_exception);
  add("strftime_now", strftime_now);
  add("cycler", cycler);
  add("joiner", joiner);
  return functions;
}

}  // namespace serval::jinja
