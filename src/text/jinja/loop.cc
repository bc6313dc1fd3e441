#include "text/jinja/loop.h"

#include <array>

namespace serval::jinja {
namespace {

constexpr std::array<std::string_view, 13> kAttributes = {
    "index", "index0", "revindex", "revindex0", "first", "last",   "length",
    "depth", "depth0", "previtem", "nextitem",  "cycle", "changed"};

// loop.cycle and loop.changed.
struct LoopMethod : Callable {
  using Method = Value (LoopObject::*)(const Arguments&);
  LoopMethod(std::string method_name, std::shared_ptr<LoopObject> object, Method pointer)
      : Callable(std::move(method_name)), loop(std::move(object)), method(pointer) {
    hold(*this, Value(std::shared_ptr<Callable>(loop)));
  }
  Value call(Interpreter&, const Arguments& arguments) override { return (loop.get()->*method)(arguments); }
  std::shared_ptr<LoopObject> loop;
  Method method;
};

}  // namespace

LoopObject::LoopObject(const Stmt& statement, std::shared_ptr<Scope> scope, std::vector<Value> items,
                       Test test, int64_t level)
    : Callable("loop"),
      statement_(statement),
      scope_(std::move(scope)),
      source_(std::move(items)),
      test_(std::move(test)),
      level_(level) {
  charge.add(static_cast<int64_t>(2 * source_.size() * sizeof(Value)));
  for (const Value& item : source_) hold(*this, item);
}

bool LoopObject::fetch(int64_t index) const {
  while (static_cast<int64_t>(items_.size()) <= index && taken_ < source_.size()) {
    const Value& candidate = source_[taken_++];
    if (test_ == nullptr || test_(candidate)) items_.push_back(candidate);
  }
  return static_cast<int64_t>(items_.size()) > index;
}

bool LoopObject::next() {
  if (!fetch(index_ + 1)) return false;
  index_++;
  return true;
}

int64_t LoopObject::length() const {
  fetch(static_cast<int64_t>(source_.size()));
  return static_cast<int64_t>(items_.size());
}

Value LoopObject::call(Interpreter& interpreter, const Arguments& arguments) {
  if (!statement_.recursive) raise("The loop must have the 'recursive' marker to be called recursively.");
  if (arguments.positional.size() != 1) raise("loop() takes exactly one argument");
  return interpreter.run_recursive_loop(statement_, scope_, arguments.positional[0], level_ + 1);
}

bool LoopObject::has_attribute(std::string_view what) const {
  for (const std::string_view known : kAttributes)
    if (known == what) return true;
  return false;
}

Value LoopObject::attribute(std::string_view what) {
  if (what == "index") return Value(index_ + 1);
  if (what == "index0") return Value(index_);
  if (what == "first") return Value(index_ == 0);
  if (what == "last") return Value(!fetch(index_ + 1));
  if (what == "length") return Value(length());
  if (what == "revindex") return Value(length() - index_);
  if (what == "revindex0") return Value(length() - index_ - 1);
  if (what == "depth") return Value(level_ + 1);
  if (what == "depth0") return Value(level_);
  if (what == "previtem")
    return index_ > 0 ? items_[static_cast<size_t>(index_ - 1)]
                      : Value::undefined("there is no previous item");
  if (what == "nextitem")
    return fetch(index_ + 1) ? items_[static_cast<size_t>(index_ + 1)]
                             : Value::undefined("there is no next item");
  auto self = std::static_pointer_cast<LoopObject>(shared_from_this());
  const auto method = what == "cycle" ? &LoopObject::cycle : &LoopObject::changed;
  return Value(std::make_shared<LoopMethod>(std::string(what), std::move(self), method));
}

void LoopObject::close() {
  test_ = nullptr;
  taken_ = source_.size();
  last_changed_.clear();
}

Value LoopObject::cycle(const Arguments& arguments) {
  const auto count = static_cast<int64_t>(arguments.positional.size());
  if (count == 0) raise("no items for cycling given");
  return arguments.positional[static_cast<size_t>(index_ % count)];
}

Value LoopObject::changed(const Arguments& arguments) {
  bool same = has_changed_ && last_changed_.size() == arguments.positional.size();
  for (size_t i = 0; same && i < last_changed_.size(); i++)
    same = equal(last_changed_[i], arguments.positional[i]);
  if (same) return Value(false);
  has_changed_ = true;
  for (const Value& value : arguments.positional) hold(*this, value);
  last_changed_ = arguments.positional;
  return Value(true);
}

std::string LoopObject::describe() const {
  return fmt::format("<LoopContext {}/{}>", index_ + 1, length());
}

}  // namespace serval::jinja
