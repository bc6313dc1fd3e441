#include "text/jinja/arguments.h"

#include <algorithm>

#include "text/jinja/operators.h"

namespace serval::jinja {
namespace {

struct Function : Callable {
  using Pointer = Value (*)(Interpreter&, const Arguments&);
  Function(std::string function_name, Pointer pointer) : Callable(std::move(function_name)), run(pointer) {}
  Value call(Interpreter& interpreter, const Arguments& arguments) override {
    return run(interpreter, arguments);
  }
  Pointer run;
};

}  // namespace

int64_t Bound::integer(size_t i, int64_t otherwise) const {
  return has(i) ? require_int(*values_[i]) : otherwise;
}

bool Bound::boolean(size_t i, bool otherwise) const {
  return has(i) ? values_[i]->truthy() : otherwise;
}

std::string Bound::text(size_t i, const std::string& otherwise, const char* what) const {
  return has(i) ? require_string(*values_[i], what) : otherwise;
}

Bound bind(std::string_view function, const Arguments& arguments, const ParameterNames& parameters,
           size_t required) {
  Bound bound(parameters.size());
  if (arguments.positional.size() > parameters.size())
    raise("{}() takes at most {} arguments ({} given)", function, parameters.size(),
          arguments.positional.size());
  for (size_t i = 0; i < arguments.positional.size(); i++) bound.set(i, arguments.positional[i]);
  for (const auto& [name, value] : arguments.keyword) {
    const auto at = std::find(parameters.begin(), parameters.end(), name);
    if (at == parameters.end()) raise("{}() got an unexpected keyword argument '{}'", function, name);
    const auto i = static_cast<size_t>(at - parameters.begin());
    if (bound.has(i)) raise("{}() got multiple values for argument '{}'", function, name);
    bound.set(i, value);
  }
  for (size_t i = 0; i < required; i++)
    if (!bound.has(i)) raise("{}() missing required argument '{}'", function, parameters[i]);
  return bound;
}

Value make_function(std::string name, Value (*function)(Interpreter&, const Arguments&)) {
  return Value(std::make_shared<Function>(std::move(name), function));
}

}  // namespace serval::jinja
