// Filters on lists and dicts, and the table of all filters.
#include <algorithm>
#include <array>
#include <functional>

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/parser.h"
#include "text/jinja/registry.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

// "a.b.0" reaches into an item, part by part.
class AttributePath {
 public:
  AttributePath(Interpreter& interpreter, const Value& path, std::optional<Value> otherwise = std::nullopt)
      : interpreter_(interpreter), otherwise_(std::move(otherwise)) {
    if (path.is_none()) return;
    if (!path.is_string()) {
      parts_.push_back(path);
      return;
    }
    std::string_view rest = path.text();
    while (true) {
      const size_t dot = std::min(rest.find('.'), rest.size());
      const std::string_view part = rest.substr(0, dot);
      const bool is_index =
          !part.empty() && part.size() < 18 && part.find_first_not_of("0123456789") == std::string_view::npos;
      parts_.push_back(is_index ? Value(static_cast<int64_t>(std::stoll(std::string(part)))) : Value(part));
      if (dot == rest.size()) break;
      rest = rest.substr(dot + 1);
    }
  }

  Value operator()(Value value) const {
    for (const Value& part : parts_) {
      value = interpreter_.item(value, part);
      if (otherwise_.has_value() && value.is_undefined()) value = *otherwise_;
    }
    return value;
  }

 private:
  Interpreter& interpreter_;
  std::vector<Value> parts_;
  std::optional<Value> otherwise_;
};

// A lazy filter: it fails when one asks for the item that cannot be made, not before.
template <class Fill>
Value lazily(Fill&& fill) {
  std::vector<Value> items;
  std::optional<TemplateError> error;
  try {
    fill(items);
  } catch (const TemplateError& raised) {
    const Meter* meter = current_meter();
    if (meter != nullptr && meter->work > meter->limits.work) throw;
    error = raised;
  }
  Value lazy = Value::iterator(std::move(items));
  lazy.iterator().error = std::move(error);
  return lazy;
}

Value fold_case(const Value& value, bool case_sensitive) {
  return value.is_string() && !case_sensitive ? Value(to_lower(value.text())) : value;
}

// Sorts by key as Python does: stable, also backwards.
std::vector<Value> sorted(std::vector<std::pair<Value, Value>> keyed, bool reverse) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (auto& entry : keyed) items.push_back(std::move(entry.second));
  return items;
}

Value length_filter(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("len", arguments, {}, 0);
  return Value(length(input));
}

Value default_filter(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("default", arguments, {"default_value", "boolean"}, 0);
  const bool missing = input.is_undefined() || (b.boolean(1, false) && !input.truthy());
  return missing ? b.value(0, Value("")) : input;
}

Value items_filter(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  bind("items", arguments, {}, 0);
  if (input.is_undefined()) return Value::iterator({});
  return lazily([&](std::vector<Value>& items) {
    if (!input.is_dict()) raise("Can only get item pairs from a mapping.");
    items = items_of(interpreter.call(interpreter.attribute(input, "items"), {}));
  });
}

Value dictsort(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("dictsort", arguments, {"case_sensitive", "by", "reverse"}, 0);
  const std::string by = b.text(1, "key", "by");
  if (by != "key" && by != "value") raise("You can only sort by either \"key\" or \"value\"");
  if (input.is_undefined()) raise_undefined(input);
  if (!input.is_dict()) raise("'{}' object has no attribute 'items'", input.type_name());
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : input.dict().entries)
    keyed.emplace_back(fold_case(by == "key" ? key : value, b.boolean(0, false)), Value::tuple({key, value}));
  return Value::list(sorted(std::move(keyed), b.boolean(2, false)));
}

Value sort(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("sort", arguments, {"reverse", "case_sensitive", "attribute"}, 0);
  std::vector<AttributePath> paths;
  const Value attribute = b.value(2);
  if (attribute.is_string()) {
    std::string_view rest = attribute.text();
    while (true) {
      const size_t comma = std::min(rest.find(','), rest.size());
      paths.emplace_back(interpreter, Value(rest.substr(0, comma)));
      if (comma == rest.size()) break;
      rest = rest.substr(comma + 1);
    }
  } else {
    paths.emplace_back(interpreter, attribute);
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items_of(input)) {
    std::vector<Value> key;
    for (const AttributePath& path : paths) key.push_back(fold_case(path(item), b.boolean(1, false)));
    keyed.emplace_back(Value::list(std::move(key)), item);
  }
  return Value::list(sorted(std::move(keyed), b.boolean(0, false)));
}

Value unique(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("unique", arguments, {"case_sensitive", "attribute"}, 0);
  const AttributePath path(interpreter, b.value(1));
  return lazily([&](std::vector<Value>& items) {
    Dict seen;
    for (const Value& item : items_of(input)) {
      const Value key = fold_case(path(item), b.boolean(0, false));
      if (seen.find(key) != nullptr) continue;
      seen.set(key, Value());
      items.push_back(item);
    }
  });
}

template <bool Largest>
Value extreme(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind(Largest ? "max" : "min", arguments, {"case_sensitive", "attribute"}, 0);
  const AttributePath path(interpreter, b.value(1));
  std::optional<std::pair<Value, Value>> best;
  for (const Value& item : items_of(input)) {
    Value key = fold_case(path(item), b.boolean(0, false));
    if (!best.has_value() || (Largest ? less(best->first, key) : less(key, best->first)))
      best.emplace(std::move(key), item);
  }
  return best.has_value() ? best->second : Value::undefined("No aggregated item, sequence was empty.");
}

Value join(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("join", arguments, {"d", "attribute"}, 0);
  const AttributePath path(interpreter, b.value(1));
  const Value separator = b.value(0, Value(""));
  // As jinja2: text alone gives text, also where output is escaped; one part that is HTML makes all of it
  // HTML.
  std::vector<Value> parts = items_of(input);
  for (Value& part : parts) part = path(part);
  const bool escape =
      interpreter.autoescape() &&
      (separator.is_markup() ||
       std::any_of(parts.begin(), parts.end(), [](const Value& part) { return part.is_markup(); }));
  Output joined;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) joined.append(escape ? escaped(separator) : separator);
    joined.append(escape ? escaped(parts[i]) : parts[i]);
  }
  auto text = std::make_shared<String>(std::move(joined.text), escape);
  text->generated = std::move(joined.generated);
  return Value::string(std::move(text));
}

Value first(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("first", arguments, {}, 0);
  if (input.is_iterator()) {
    Iterator& walk = input.iterator();
    if (walk.position < walk.items.size()) return walk.items[walk.position++];
    walk.require_end();
    return Value::undefined("No first item, sequence was empty.");
  }
  const std::vector<Value> items = items_of(input);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

std::vector<Value> reversible(const Value& input) {
  if (input.is_iterator()) raise("'generator' object is not reversible");
  if (input.is_number() || input.is_none() || input.is_namespace() || input.is_callable())
    raise("'{}' object is not reversible", input.type_name());
  return items_of(input);
}

Value last(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("last", arguments, {}, 0);
  const std::vector<Value> items = reversible(input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("reverse", arguments, {}, 0);
  if (input.is_string()) return slice(input, Value(), Value(), Value(int64_t{-1}));
  if (input.is_number() || input.is_none() || input.is_namespace() || input.is_callable())
    raise("argument must be iterable");
  std::vector<Value> items = items_of(input);
  std::reverse(items.begin(), items.end());
  return input.is_iterator() ? Value::list(std::move(items)) : Value::iterator(std::move(items));
}

Value list(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("list", arguments, {}, 0);
  return Value::list(items_of(input));
}

Value sum(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("sum", arguments, {"attribute", "start"}, 0);
  const AttributePath path(interpreter, b.value(0));
  Value total = b.value(1, Value(int64_t{0}));
  if (total.is_string()) raise("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : items_of(input)) total = binary(BinaryOp::add, total, path(item));
  return total;
}

Value batch(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("batch", arguments, {"linecount", "fill_with"}, 1);
  return lazily([&](std::vector<Value>& batches) {
    std::vector<Value> current;
    for (const Value& item : items_of(input)) {
      if (equal(Value(static_cast<int64_t>(current.size())), b.value(0)))
        batches.push_back(Value::list(std::exchange(current, {})));
      current.push_back(item);
    }
    if (current.empty()) return;
    if (b.has(1) && !b.value(1).is_none()) {
      const int64_t size = b.integer(0, 1);
      if (static_cast<int64_t>(current.size()) < size) {
        check_text_size(static_cast<int64_t>(sizeof(Value)), size);
        current.resize(static_cast<size_t>(size), b.value(1));
      }
    }
    batches.push_back(Value::list(std::move(current)));
  });
}

void cut_into(const std::vector<Value>& items, const Bound& b, std::vector<Value>& parts) {
  const int64_t slices = b.integer(0, 1);
  const auto size = static_cast<int64_t>(items.size());
  if (slices == 0) raise("integer division or modulo by zero");
  check_text_size(static_cast<int64_t>(sizeof(Sequence) + sizeof(Value)), std::max<int64_t>(slices, 0));
  int64_t at = 0;
  for (int64_t i = 0; i < slices; i++) {
    const int64_t count = size / slices + (i < size % slices ? 1 : 0);
    std::vector<Value> part(items.begin() + at, items.begin() + at + count);
    at += count;
    if (b.has(1) && !b.value(1).is_none() && i >= size % slices) part.push_back(b.value(1));
    parts.push_back(Value::list(std::move(part)));
  }
}

Value slice_filter(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b = bind("slice", arguments, {"slices", "fill_with"}, 1);
  return lazily([&](std::vector<Value>& parts) { cut_into(items_of(input), b, parts); });
}

Value groupby(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  std::optional<Value> otherwise;
  if (b.has(1) && !b.value(1).is_none()) otherwise = b.value(1);
  const AttributePath path(interpreter, b.value(0), otherwise);
  const auto key_of = [&](const Value& item) { return fold_case(path(item), b.boolean(2, false)); };
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items_of(input)) keyed.emplace_back(key_of(item), item);
  std::vector<Value> groups, members;
  std::optional<Value> key;
  const auto flush = [&] {
    if (members.empty()) return;
    const Value name = path(members.front());
    std::vector<Value> pair = {name, Value::list(std::exchange(members, {}))};
    auto group = std::make_shared<Sequence>(Sequence::Kind::tuple, std::move(pair));
    group->is_group = true;
    groups.push_back(Value::sequence(std::move(group)));
  };
  for (const Value& item : sorted(std::move(keyed), false)) {
    Value item_key = key_of(item);
    if (!key.has_value() || !equal(*key, item_key)) flush();
    key = std::move(item_key);
    members.push_back(item);
  }
  flush();
  return Value::list(std::move(groups));
}

Value attr(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b = bind("attr", arguments, {"name"}, 1);
  const std::string name = b.text(0, "", "attribute name");
  if (input.is_undefined()) raise_undefined(input);
  if (input.is_dict()) {
    // Only true attributes count, not items; an empty dict has the same methods.
    const Value found = interpreter.attribute(Value(std::make_shared<Dict>()), name);
    if (found.is_undefined()) return found;
  }
  return interpreter.attribute(input, name);
}

// The arguments after the first `skip`.
Arguments rest_of(const Arguments& arguments, size_t skip) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(skip),
                         arguments.positional.end());
  rest.keyword = arguments.keyword;
  return rest;
}

void fill_map(Interpreter& interpreter, const Value& input, const Arguments& arguments,
              std::vector<Value>& items) {
  if (!input.truthy()) return;
  if (arguments.positional.empty() && !arguments.keyword.empty()) {
    const Bound b = bind("map", arguments, {"attribute", "default"}, 1);
    std::optional<Value> otherwise;
    if (b.has(1) && !b.value(1).is_none()) otherwise = b.value(1);
    const AttributePath path(interpreter, b.value(0), otherwise);
    for (const Value& item : items_of(input)) items.push_back(path(item));
    return;
  }
  if (arguments.positional.empty()) raise("map requires a filter argument");
  const std::string name = require_string(arguments.positional[0], "the name of a filter");
  const Arguments rest = rest_of(arguments, 1);
  for (const Value& item : items_of(input)) items.push_back(interpreter.apply_filter(name, item, rest));
}

Value map(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return lazily([&](std::vector<Value>& items) { fill_map(interpreter, input, arguments, items); });
}

// select, reject, selectattr, rejectattr.
template <bool Keep, bool OfAttribute>
Value select(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return lazily([&](std::vector<Value>& items) {
    if (!input.truthy()) return;
    constexpr size_t kFirst = OfAttribute ? 1 : 0;
    if (OfAttribute && arguments.positional.empty()) raise("Missing parameter for attribute name");
    const AttributePath path(interpreter, OfAttribute ? arguments.positional[0] : Value());
    const bool has_test = arguments.positional.size() > kFirst;
    const std::string test =
        has_test ? require_string(arguments.positional[kFirst], "the name of a test") : "";
    const Arguments rest = has_test ? rest_of(arguments, kFirst + 1) : Arguments{};
    for (const Value& item : items_of(input)) {
      const Value subject = path(item);
      const bool passed = has_test ? interpreter.apply_test(test, subject, rest) : subject.truthy();
      if (passed == Keep) items.push_back(item);
    }
  });
}

constexpr std::array kSequenceFilters = std::to_array<FilterEntry>({
    {"attr", attr},
    {"batch", batch},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items_filter},
    {"join", join},
    {"last", last},
    {"length", length_filter},
    {"list", list},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"reverse", reverse},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"slice", slice_filter},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
});

}  // namespace

std::span<const FilterEntry> sequence_filters() {
  return kSequenceFilters;
}

const FilterEntry* find_filter(std::string_view name) {
  for (const std::span<const FilterEntry> table :
       {text_filters(), number_filters(), sequence_filters(), html_filters(), layout_filters()})
    for (const FilterEntry& filter : table)
      if (filter.name == name) return &filter;
  return nullptr;
}

bool is_filter(std::string_view name) {
  return find_filter(name) != nullptr;
}

}  // namespace serval::jinja
