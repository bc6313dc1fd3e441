#include "text/jinja/interpreter.h"

#include <algorithm>
#include <ctime>

#include "text/jinja/loop.h"
#include "text/jinja/methods.h"
#include "text/jinja/registry.h"

namespace serval::jinja {

void Output::append(std::string_view more) {
  if (more.empty()) return;
  const Limits& limits = current_limits();
  if (static_cast<int64_t>(text.size() + more.size()) > limits.output_bytes)
    raise("the template writes too much text (limit: {} bytes)", limits.output_bytes);
  charge.add(static_cast<int64_t>(more.size()));
  spend_bytes(static_cast<int64_t>(more.size()));
  text += more;
}

void Output::append(const Value& value) {
  if (value.is_string())
    for (const TextRange& r : value.string().generated) {
      const auto shift = static_cast<int64_t>(text.size());
      generated.push_back({r.begin + shift, r.end + shift, r.message});
    }
  if (value.is_string())
    append(std::string_view(value.text()));
  else
    append(std::string_view(to_text(value)));
}

void Scope::set(NameId name, Value value) {
  for (auto& [id, old] : variables)
    if (id == name) {
      old = std::move(value);
      return;
    }
  variables.emplace_back(name, std::move(value));
}

// One more statement, expression or call open.
class Interpreter::Level {
 public:
  explicit Level(Interpreter& interpreter) : interpreter_(interpreter) {
    if (interpreter_.nesting_ >= current_limits().nesting)
      raise("the template calls itself too deeply (limit: {} levels)", current_limits().nesting);
    interpreter_.nesting_++;
    spend();
  }
  ~Level() { interpreter_.nesting_--; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Interpreter& interpreter_;
};

namespace {

// Puts a variable back at the end of the scope, also when an error leaves it.
template <class T>
class Restore {
 public:
  explicit Restore(T& variable) : variable_(variable), saved_(variable) {}
  Restore(T& variable, T value) : Restore(variable) { variable_ = std::move(value); }
  ~Restore() { variable_ = std::move(saved_); }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  T& variable_;
  T saved_;
};

struct Macro : Callable {
  Macro(const MacroBody& macro_body, std::shared_ptr<Scope> outer, Interpreter::Escaping how)
      : Callable(macro_body.name), body(macro_body), scope(std::move(outer)), written(how) {}
  Value call(Interpreter& interpreter, const Arguments& arguments) override {
    return interpreter.run_macro(body, scope, written, arguments);
  }
  bool has_attribute(std::string_view attribute_name) const override {
    return attribute_name == "name" || attribute_name == "arguments" || attribute_name == "caller" ||
           attribute_name == "catch_kwargs" || attribute_name == "catch_varargs";
  }
  Value attribute(std::string_view attribute_name) override {
    if (attribute_name == "name") return Value(name);
    if (attribute_name == "caller") return Value(body.uses_caller);
    if (attribute_name == "catch_kwargs") return Value(body.uses_kwargs);
    if (attribute_name == "catch_varargs") return Value(body.uses_varargs);
    std::vector<Value> names;
    for (const Parameter& parameter : body.parameters) names.emplace_back(parameter.name);
    return Value::tuple(std::move(names));
  }
  std::string describe() const override { return fmt::format("<Macro {}>", repr_text(name)); }
  const MacroBody& body;
  std::shared_ptr<Scope> scope;
  Interpreter::Escaping written;
};

// self, whose attributes are the template's blocks.
struct BlockCall : Callable {
  BlockCall(std::string block_name, const Stmt& statement, std::shared_ptr<Scope> root)
      : Callable(std::move(block_name)), block(statement), scope(std::move(root)) {}
  Value call(Interpreter& interpreter, const Arguments&) override {
    return interpreter.run_block(block, scope);
  }
  const Stmt& block;
  std::shared_ptr<Scope> scope;
};

struct TemplateSelf : Callable {
  TemplateSelf(const Program& of, std::shared_ptr<Scope> root)
      : Callable("self"), program(of), scope(std::move(root)) {}
  Value call(Interpreter&, const Arguments&) override { raise("'TemplateReference' object is not callable"); }
  const Stmt* find(std::string_view block) const {
    for (const auto& [block_name, statement] : program.blocks)
      if (block_name == block) return statement;
    return nullptr;
  }
  bool has_attribute(std::string_view block) const override { return find(block) != nullptr; }
  Value attribute(std::string_view block) override {
    return Value(std::make_shared<BlockCall>(std::string(block), *find(block), scope));
  }
  std::string describe() const override { return "<TemplateReference None>"; }
  const Program& program;
  std::shared_ptr<Scope> scope;
};

}  // namespace

Interpreter::Interpreter(const Program& program, const Variables& variables, std::optional<int64_t> now)
    : program_(program), globals_(program.names.size()), now_(now), root_(std::make_shared<Scope>()) {
  scope_ = root_;
  const auto define = [&](const std::string& name, const Value& value) {
    const auto at = std::find(program_.names.begin(), program_.names.end(), name);
    if (at != program_.names.end()) globals_[static_cast<size_t>(at - program_.names.begin())] = value;
  };
  for (const auto& [name, function] : global_functions()) define(name, function);
  for (const auto& [name, value] : variables) define(name, value);
  define("self", Value(std::make_shared<TemplateSelf>(program_, root_)));
}

Interpreter::~Interpreter() {
  for (const auto& space : namespaces_) space->attributes = nullptr;
  for (const auto& scope : kept_scopes_) scope->variables.clear();
  root_->variables.clear();
}

void Interpreter::run(Output& output) {
  const Restore<Output*> restore(output_, &output);
  run_body(program_.body);
}

int64_t Interpreter::now() const {
  return now_.value_or(static_cast<int64_t>(std::time(nullptr)));
}

Value Interpreter::make_namespace() {
  namespaces_.push_back(std::make_shared<Namespace>());
  return Value(namespaces_.back());
}

void Interpreter::push_scope() {
  auto inner = std::make_shared<Scope>();
  inner->parent = scope_;
  scope_ = std::move(inner);
}

void Interpreter::pop_scope() {
  scope_ = std::shared_ptr<Scope>(scope_->parent);
}

std::optional<Value> Interpreter::lookup(NameId name) const {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get())
    for (const auto& [id, value] : scope->variables)
      if (id == name) return value;
  return globals_[static_cast<size_t>(name)];
}

// ---- statements ----

// NOLINTBEGIN(misc-no-recursion): Level bounds the depth of all that follows

Interpreter::Flow Interpreter::run_body(const Block& body) {
  for (const auto& statement : body) {
    const Flow flow = run_statement(*statement);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::run_statement(const Stmt& statement) {
  try {
    const Level level(*this);
    return run_statement_inside(statement);
  } catch (TemplateError& error) {
    if (error.offset < 0) error.offset = statement.offset;
    throw;
  }
}

Interpreter::Flow Interpreter::run_statement_inside(const Stmt& statement) {
  switch (statement.kind) {
    case StmtKind::output:
      run_output(statement);
      return Flow::normal;
    case StmtKind::assign:
      assign(*statement.target, eval(*statement.exprs[0]));
      return Flow::normal;
    case StmtKind::assign_block:
      return run_assign_block(statement);
    case StmtKind::if_chain:
      return run_if(statement);
    case StmtKind::for_loop:
      if (statement.recursive) {
        const Value items = eval(*statement.exprs[0]);
        output_->append(run_recursive_loop(statement, scope_, items, 0));
        return Flow::normal;
      }
      return run_for(statement, eval(*statement.exprs[0]), 0);
    case StmtKind::with:
      return run_with(statement);
    case StmtKind::macro:
      scope_->set(statement.id, make_macro(*statement.macro));
      return Flow::normal;
    case StmtKind::call_block:
      run_call_block(statement);
      return Flow::normal;
    case StmtKind::filter_block:
      return run_filter_block(statement);
    case StmtKind::generation:
      run_generation(statement);
      return Flow::normal;
    case StmtKind::autoescape:
      return run_autoescape(statement);
    case StmtKind::block:
      output_->append(run_block(statement, statement.scoped ? scope_ : root_));
      return Flow::normal;
    case StmtKind::unavailable:
      raise("a chat template cannot use '{}': there are no other templates to load", statement.text);
    case StmtKind::break_loop:
      return Flow::break_loop;
    case StmtKind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::normal;
}

void Interpreter::run_output(const Stmt& statement) {
  for (const ExprPtr& expr : statement.exprs) {
    if (expr->kind == ExprKind::constant && expr->value.is_string()) {
      const String& text = expr->value.string();
      // A constant is written at compile time, where {% autoescape %} is known only if it is one too.
      if (written_ == Escaping::on && !text.markup)
        output_->append(std::string_view(escape_html(text.text)));
      else
        output_->append(std::string_view(text.text));
      continue;
    }
    const Value value = eval(*expr);
    output_->append(writes_escaped() ? escaped(value) : value);
  }
}

// What a filter or a call makes of a block is written as it is, and jinja2 joins nothing but strings.
void Interpreter::write_string(const Value& value) {
  if (!value.is_string()) raise("expected str instance, {} found", value.type_name());
  output_->append(value);
}

Interpreter::Flow Interpreter::run_if(const Stmt& statement) {
  for (size_t i = 0; i < statement.exprs.size(); i++)
    if (eval(*statement.exprs[i]).truthy()) return run_body(statement.branches[i]);
  return statement.branches.size() > statement.exprs.size() ? run_body(statement.branches.back())
                                                            : Flow::normal;
}

Interpreter::Flow Interpreter::run_for(const Stmt& statement, const Value& items, int64_t depth) {
  const Restore<std::shared_ptr<Scope>> restore(scope_);
  const std::shared_ptr<Scope> outer = scope_;
  LoopObject::Test test;
  if (statement.exprs[1] != nullptr)
    test = [this, &statement, outer](const Value& candidate) {
      const Restore<std::shared_ptr<Scope>> restore_scope(scope_, outer);
      push_scope();
      assign(*statement.target, candidate);
      return eval(*statement.exprs[1]).truthy();
    };
  const auto loop = std::make_shared<LoopObject>(statement, outer, items_of(items), std::move(test), depth);
  struct Close {
    LoopObject& loop;
    ~Close() { loop.close(); }
  } close{*loop};
  bool finished_one = false;
  while (loop->next()) {
    spend();
    scope_ = outer;
    push_scope();
    scope_->set(kLoop, Value(std::shared_ptr<Callable>(loop)));
    assign(*statement.target, loop->current());
    const Flow flow = run_body(statement.body);
    if (flow == Flow::break_loop) break;
    if (flow == Flow::normal) finished_one = true;
  }
  // As jinja2: the else branch runs unless a body reached its end.
  if (finished_one || statement.branches.empty()) return Flow::normal;
  scope_ = outer;
  push_scope();
  return run_body(statement.branches[0]);
}

Value Interpreter::run_recursive_loop(const Stmt& loop, const std::shared_ptr<Scope>& scope,
                                      const Value& items, int64_t depth) {
  const Level level(*this);
  Output buffer;
  const Restore<Output*> restore_output(output_, &buffer);
  const Restore<std::shared_ptr<Scope>> restore_scope(scope_, scope);
  run_for(loop, items, depth);
  return captured(buffer, writes_escaped());
}

Value Interpreter::captured(Output& output, bool is_markup) {
  auto text = std::make_shared<String>(std::move(output.text), is_markup);
  text->generated = std::move(output.generated);
  return Value::string(std::move(text));
}

Interpreter::Flow Interpreter::capture(const Block& body, Output& output) {
  const Restore<Output*> restore_output(output_, &output);
  const Restore<std::shared_ptr<Scope>> restore_scope(scope_);
  push_scope();
  return run_body(body);
}

Interpreter::Flow Interpreter::run_assign_block(const Stmt& statement) {
  Output buffer;
  const Flow flow = capture(statement.body, buffer);
  if (flow != Flow::normal) return flow;
  Value text = captured(buffer, autoescape_);
  if (!statement.exprs.empty()) {
    const Restore<const Value*> restore(filter_input_, &text);
    text = eval(*statement.exprs[0]);
    if (autoescape_ && !text.is_markup()) text = Value::markup(to_text(text));
  }
  assign(*statement.target, text);
  return Flow::normal;
}

Interpreter::Flow Interpreter::run_filter_block(const Stmt& statement) {
  Output buffer;
  const Flow flow = capture(statement.body, buffer);
  if (flow != Flow::normal) return flow;
  const Value text = captured(buffer, writes_escaped());
  const Restore<const Value*> restore(filter_input_, &text);
  write_string(eval(*statement.exprs[0]));
  return Flow::normal;
}

Interpreter::Flow Interpreter::run_with(const Stmt& statement) {
  const Restore<std::shared_ptr<Scope>> restore(scope_);
  std::vector<Value> values;
  for (size_t i = 1; i < statement.exprs.size(); i += 2) values.push_back(eval(*statement.exprs[i]));
  push_scope();
  for (size_t i = 0; i < values.size(); i++) assign(*statement.exprs[2 * i], values[i]);
  return run_body(statement.body);
}

Interpreter::Flow Interpreter::run_autoescape(const Stmt& statement) {
  const bool is_constant = statement.exprs[0]->kind == ExprKind::constant;
  const Restore<bool> restore(autoescape_, eval(*statement.exprs[0]).truthy());
  const Restore<Escaping> restore_written(written_, !is_constant  ? Escaping::as_called
                                                    : autoescape_ ? Escaping::on
                                                                  : Escaping::off);
  const Restore<std::shared_ptr<Scope>> restore_scope(scope_);
  push_scope();
  return run_body(statement.body);
}

void Interpreter::run_generation(const Stmt& statement) {
  Output buffer;
  {
    // transformers makes it the body of a macro that is called with nothing.
    const Restore<std::shared_ptr<Scope>> restore_scope(scope_);
    push_scope();
    scope_->set(kVarargs, Value::tuple({}));
    scope_->set(kKwargs, Value(std::make_shared<Dict>()));
    scope_->set(kCaller, Value::undefined("No caller defined"));
    capture(statement.body, buffer);
  }
  const auto begin = static_cast<int64_t>(output_->text.size());
  const auto size = static_cast<int64_t>(buffer.text.size());
  output_->append(captured(buffer, autoescape_));
  output_->generated.push_back({begin, begin + size, current_message()});
}

// The innermost loop over `messages`, else the innermost variable that is one of them, tells.
int64_t Interpreter::current_message() const {
  const std::optional<Value>& messages = globals_[kMessages];
  if (!messages.has_value() || !messages->is_sequence()) return -1;
  const std::vector<Value>& list = messages->sequence().items;
  const auto index_of = [&](const Value& value) -> int64_t {
    if (value.is_dict())
      for (size_t i = 0; i < list.size(); i++)
        if (list[i].identity() == value.identity()) return static_cast<int64_t>(i);
    return -1;
  };
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get())
    for (const auto& [id, value] : scope->variables) {
      if (id != kLoop || !value.is_callable()) continue;
      const auto* loop = dynamic_cast<const LoopObject*>(&value.callable());
      if (loop == nullptr) continue;
      const Value& item = loop->current();
      if (const int64_t i = index_of(item); i >= 0) return i;
      if (item.is_sequence())
        for (const Value& part : item.sequence().items)
          if (const int64_t i = index_of(part); i >= 0) return i;
    }
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get())
    for (const auto& entry : scope->variables)
      if (const int64_t i = index_of(entry.second); i >= 0) return i;
  return -1;
}

Value Interpreter::run_block(const Stmt& block, const std::shared_ptr<Scope>& scope) {
  const Level level(*this);
  Output buffer;
  const Restore<std::shared_ptr<Scope>> restore(scope_, scope);
  const Restore<Escaping> restore_written(written_, Escaping::off);
  capture(block.body, buffer);
  return captured(buffer, autoescape_);
}

// ---- macros ----

Value Interpreter::make_macro(const MacroBody& macro) {
  for (auto scope = scope_; scope != nullptr && !scope->kept; scope = scope->parent) {
    scope->kept = true;
    kept_scopes_.push_back(scope);
  }
  return Value(std::make_shared<Macro>(macro, scope_, written_));
}

void Interpreter::run_call_block(const Stmt& statement) {
  const Expr& call_expr = *statement.exprs[0];
  const Value callee = eval(*call_expr.items[0]);
  Arguments arguments = eval_arguments(*call_expr.arguments);
  arguments.keyword.emplace_back("caller", make_macro(*statement.macro));
  const Value result = call(callee, arguments);
  write_string(result);
}

Value Interpreter::run_macro(const MacroBody& macro, const std::shared_ptr<Scope>& scope, Escaping written,
                             const Arguments& arguments) {
  const Level level(*this);
  const Restore<std::shared_ptr<Scope>> restore_scope(scope_, scope);
  const Restore<Escaping> restore_written(written_, written);
  push_scope();
  std::vector<std::pair<std::string, Value>> keyword = arguments.keyword;
  const auto take = [&](std::string_view name) -> std::optional<Value> {
    for (auto it = keyword.begin(); it != keyword.end(); ++it)
      if (it->first == name) {
        Value value = std::move(it->second);
        keyword.erase(it);
        return value;
      }
    return std::nullopt;
  };
  const size_t given = std::min(arguments.positional.size(), macro.parameters.size());
  bool has_caller_parameter = false;
  for (size_t i = 0; i < macro.parameters.size(); i++) {
    const Parameter& parameter = macro.parameters[i];
    has_caller_parameter = has_caller_parameter || parameter.id == kCaller;
    std::optional<Value> value = i < given ? arguments.positional[i] : take(parameter.name);
    if (!value.has_value())
      value = parameter.default_value != nullptr
                  ? eval(*parameter.default_value)
                  : Value::undefined(fmt::format("parameter {} was not provided", repr_text(parameter.name)));
    scope_->set(parameter.id, std::move(*value));
  }
  if (macro.uses_caller && !has_caller_parameter)
    scope_->set(kCaller, take("caller").value_or(Value::undefined("No caller defined")));
  if (macro.uses_kwargs) {
    auto rest = std::make_shared<Dict>();
    for (auto& [name, value] : keyword) rest->set(Value(name), std::move(value));
    scope_->set(kKwargs, Value(std::move(rest)));
  } else if (!keyword.empty()) {
    const bool is_caller = std::any_of(keyword.begin(), keyword.end(),
                                       [](const auto& argument) { return argument.first == "caller"; });
    if (is_caller && macro.uses_caller)
      raise(
          "macro {} was invoked with two values for the special caller argument. This is most likely a bug.",
          repr_text(macro.name));
    raise("macro {} takes no keyword argument {}", repr_text(macro.name), repr_text(keyword.front().first));
  }
  std::vector<Value> rest(arguments.positional.begin() + static_cast<std::ptrdiff_t>(given),
                          arguments.positional.end());
  if (macro.uses_varargs) {
    scope_->set(kVarargs, Value::tuple(std::move(rest)));
  } else if (!rest.empty()) {
    raise("macro {} takes not more than {} argument(s)", repr_text(macro.name), macro.parameters.size());
  }
  Output buffer;
  const Restore<Output*> restore_output(output_, &buffer);
  run_body(macro.body);
  return captured(buffer, autoescape_);
}

// ---- assignments ----

void Interpreter::assign(const Expr& target, const Value& value) {
  if (target.kind == ExprKind::name) {
    scope_->set(target.id, value);
    return;
  }
  if (target.kind == ExprKind::namespace_field) {
    const std::optional<Value> space = lookup(target.id);
    if (!space.has_value()) raise("'{}' is undefined", program_.names[static_cast<size_t>(target.id)]);
    if (!space->is_namespace()) raise("cannot assign attribute on non-namespace object");
    if (target.text[0] == '_')
      raise("Chat templates cannot store underscore-prefixed attributes on a namespace, but got {}",
            repr_text(target.text));
    space->name_space().attributes->set(Value(target.text), value);
    return;
  }
  const std::vector<Value> parts = items_of(value);
  if (parts.size() < target.items.size())
    raise("not enough values to unpack (expected {}, got {})", target.items.size(), parts.size());
  if (parts.size() > target.items.size())
    raise("too many values to unpack (expected {})", target.items.size());
  for (size_t i = 0; i < parts.size(); i++) assign(*target.items[i], parts[i]);
}

// ---- expressions ----

Value Interpreter::eval(const Expr& expr) {
  try {
    const Level level(*this);
    return eval_inside(expr);
  } catch (TemplateError& error) {
    if (error.offset < 0) error.offset = expr.offset;
    throw;
  }
}

Value Interpreter::eval_inside(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::constant:
      return expr.value;
    case ExprKind::name:
      return eval_name(expr);
    case ExprKind::attribute:
      return attribute(eval(*expr.items[0]), expr.text);
    case ExprKind::subscript:
      return eval_subscript(expr);
    case ExprKind::call:
      return eval_call(expr);
    case ExprKind::filter:
      return eval_filter(expr);
    case ExprKind::test:
      return eval_test(expr);
    case ExprKind::unary: {
      const Value operand = eval(*expr.items[0]);
      if (expr.text == "not") return Value(!operand.truthy());
      return expr.text == "-" ? negate(operand) : posate(operand);
    }
    case ExprKind::binary: {
      const Value left = eval(*expr.items[0]);
      return binary(expr.op, left, eval(*expr.items[1]));
    }
    case ExprKind::compare:
      return eval_compare(expr);
    case ExprKind::logical_and: {
      Value left = eval(*expr.items[0]);
      return left.truthy() ? eval(*expr.items[1]) : left;
    }
    case ExprKind::logical_or: {
      Value left = eval(*expr.items[0]);
      return left.truthy() ? left : eval(*expr.items[1]);
    }
    case ExprKind::concat:
      return eval_concat(expr);
    case ExprKind::condition:
      return eval_condition(expr);
    case ExprKind::list:
      return Value::list(eval_items(expr));
    case ExprKind::tuple:
      return Value::tuple(eval_items(expr));
    case ExprKind::dict:
      return eval_dict(expr);
    case ExprKind::slice:
    case ExprKind::namespace_field:
      break;
  }
  return {};
}

Value Interpreter::eval_name(const Expr& expr) {
  std::optional<Value> value = lookup(expr.id);
  if (value.has_value()) return std::move(*value);
  return Value::undefined(
      fmt::format("{} is undefined", repr_text(program_.names[static_cast<size_t>(expr.id)])));
}

Value Interpreter::eval_subscript(const Expr& expr) {
  const Value object = eval(*expr.items[0]);
  const Expr& key = *expr.items[1];
  if (key.kind != ExprKind::slice) return item(object, eval(key));
  const auto bound = [&](size_t i) { return key.items[i] != nullptr ? eval(*key.items[i]) : Value(); };
  const Value start = bound(0), stop = bound(1), step = bound(2);
  return slice(object, start, stop, step);
}

Arguments Interpreter::eval_arguments(const CallArguments& given) {
  Arguments arguments;
  arguments.positional.reserve(given.positional.size());
  for (const ExprPtr& expr : given.positional) arguments.positional.push_back(eval(*expr));
  if (given.all_positional != nullptr)
    for (Value& value : items_of(eval(*given.all_positional)))
      arguments.positional.push_back(std::move(value));
  for (const auto& [name, expr] : given.keyword) arguments.keyword.emplace_back(name, eval(*expr));
  if (given.all_keyword != nullptr) {
    const Value all = eval(*given.all_keyword);
    if (all.is_undefined()) raise_undefined(all);
    if (!all.is_dict()) raise("argument after ** must be a mapping, not {}", all.type_name());
    for (const auto& [key, value] : all.dict().entries)
      arguments.keyword.emplace_back(require_string(key, "keywords"), value);
  }
  return arguments;
}

Value Interpreter::eval_call(const Expr& expr) {
  const Value callee = eval(*expr.items[0]);
  return call(callee, eval_arguments(*expr.arguments));
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  if (callee.is_undefined()) raise_undefined(callee);
  if (!callee.is_callable()) raise("'{}' object is not callable", callee.type_name());
  return callee.callable().call(*this, arguments);
}

Value Interpreter::eval_filter(const Expr& expr) {
  const Value value = expr.items[0] != nullptr ? eval(*expr.items[0]) : *filter_input_;
  return apply_filter(expr.text, value, eval_arguments(*expr.arguments));
}

Value Interpreter::eval_test(const Expr& expr) {
  const Value value = eval(*expr.items[0]);
  return Value(apply_test(expr.text, value, eval_arguments(*expr.arguments)));
}

Value Interpreter::eval_compare(const Expr& expr) {
  Value left = eval(*expr.items[0]);
  for (size_t i = 0; i < expr.comparisons.size(); i++) {
    Value right = eval(*expr.items[i + 1]);
    if (!compare(expr.comparisons[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::eval_concat(const Expr& expr) {
  Output joined;
  std::vector<Value> parts = eval_items(expr);
  const bool is_markup = writes_escaped() && std::any_of(parts.begin(), parts.end(),
                                                         [](const Value& v) { return v.is_markup(); });
  for (const Value& part : parts) joined.append(is_markup ? escaped(part) : part);
  auto text = std::make_shared<String>(std::move(joined.text), is_markup);
  text->generated = std::move(joined.generated);
  return Value::string(std::move(text));
}

Value Interpreter::eval_condition(const Expr& expr) {
  if (eval(*expr.items[1]).truthy()) return eval(*expr.items[0]);
  if (expr.items[2] != nullptr) return eval(*expr.items[2]);
  return Value::undefined("the inline if-expression evaluated to false and no else section was defined.");
}

std::vector<Value> Interpreter::eval_items(const Expr& expr) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) items.push_back(eval(*item));
  return items;
}

Value Interpreter::eval_dict(const Expr& expr) {
  auto dict = std::make_shared<Dict>();
  for (size_t i = 0; i + 1 < expr.items.size(); i += 2) {
    Value key = eval(*expr.items[i]);
    dict->set(std::move(key), eval(*expr.items[i + 1]));
  }
  return Value(std::move(dict));
}

// NOLINTEND(misc-no-recursion)

// ---- attributes ----

Value Interpreter::attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) raise_undefined(object);
  spend(static_cast<int64_t>(name.size()) / 4);
  if (object.is_namespace()) {
    const Value* found = object.name_space().attributes->find(name);
    if (found != nullptr) return *found;
  } else if (object.is_callable()) {
    if (object.callable().has_attribute(name)) return object.callable().attribute(name);
  } else {
    std::optional<Value> method = find_method(object, name);
    if (method.has_value()) return std::move(*method);
    if (object.is_dict()) {
      const Value* found = object.dict().find(name);
      if (found != nullptr) return *found;
    }
  }
  return Value::undefined(
      fmt::format("{} has no attribute {}", repr_text(object.object_name()), repr_text(name)));
}

Value Interpreter::item(const Value& object, const Value& key) {
  std::optional<Value> found = find_item(object, key);
  if (found.has_value()) return std::move(*found);
  if (!key.is_string())
    return Value::undefined(fmt::format("{} has no element {}", object.object_name(), repr(key)));
  if (object.is_dict()) {
    std::optional<Value> method = find_method(object, key.text());
    if (method.has_value()) return std::move(*method);
    return Value::undefined(
        fmt::format("{} has no attribute {}", repr_text(object.object_name()), repr_text(key.text())));
  }
  return attribute(object, key.text());
}

Value Interpreter::apply_filter(const std::string& name, const Value& value, const Arguments& arguments) {
  const FilterEntry* filter = find_filter(name);
  if (filter == nullptr) raise("No filter named {} found.", repr_text(name));
  // Every filter may look at each character of a text.
  if (value.is_string()) spend(static_cast<int64_t>(value.text().size()) / 32);
  return filter->run(*this, value, arguments);
}

bool Interpreter::apply_test(const std::string& name, const Value& value, const Arguments& arguments) {
  const TestEntry* test = find_test(name);
  if (test == nullptr) raise("No test named {} found.", repr_text(name));
  if (value.is_string()) spend(static_cast<int64_t>(value.text().size()) / 12);
  return test->run(*this, value, arguments);
}

}  // namespace serval::jinja
