// Runs a parsed template. One Interpreter renders once; all its values die with it.
//
//   Meter meter(limits);
//   MeterScope scope(meter);
//   Interpreter interpreter(*program, variables, now);
//   Rendered text = interpreter.run();
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace serval::jinja {

// Text on its way out, with the ranges that {% generation %} marked.
struct Output {
  std::string text;
  std::vector<TextRange> generated;
  MemoryCharge charge{0};
  void append(const Value& value);  // a string brings its own ranges along
  void append(std::string_view more);
};

struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<NameId, Value>> variables;
  bool kept = false;  // a macro refers to it
  void set(NameId name, Value value);
};

class Interpreter {
 public:
  using Variables = std::vector<std::pair<std::string, Value>>;
  // `now`: Unix time of strftime_now, the system's clock where absent.
  Interpreter(const Program& program, const Variables& variables, std::optional<int64_t> now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  void run(Output& output);

  // What filters, tests and functions need of the language.
  Value call(const Value& callee, const Arguments& arguments);
  Value attribute(const Value& object, const std::string& name);  // object.name
  Value item(const Value& object, const Value& key);              // object[key]
  Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments);
  bool apply_test(const std::string& name, const Value& value, const Arguments& arguments);
  Value make_namespace();
  bool autoescape() const { return autoescape_; }
  int64_t now() const;

  // For the callables that belong to a template.
  // Whether what is written is escaped; as_called: as {% autoescape %} says at run time.
  enum class Escaping : uint8_t { off, on, as_called };
  Value run_macro(const MacroBody& macro, const std::shared_ptr<Scope>& scope, Escaping written,
                  const Arguments& arguments);
  Value run_block(const Stmt& block, const std::shared_ptr<Scope>& scope);
  Value run_recursive_loop(const Stmt& loop, const std::shared_ptr<Scope>& scope, const Value& items,
                           int64_t depth);
  const Program& program() const { return program_; }

 private:
  enum class Flow : uint8_t { normal, break_loop, continue_loop };
  class Level;
  friend class LoopItems;

  Flow run_body(const Block& body);
  Flow run_statement(const Stmt& statement);
  Flow run_statement_inside(const Stmt& statement);
  Flow run_if(const Stmt& statement);
  Flow run_for(const Stmt& statement, const Value& items, int64_t depth);
  Flow run_assign_block(const Stmt& statement);
  Flow run_with(const Stmt& statement);
  Flow run_filter_block(const Stmt& statement);
  Flow run_autoescape(const Stmt& statement);
  void run_output(const Stmt& statement);
  void write_string(const Value& value);
  bool writes_escaped() const {
    return written_ == Escaping::as_called ? autoescape_ : written_ == Escaping::on;
  }
  void run_call_block(const Stmt& statement);
  void run_generation(const Stmt& statement);
  int64_t current_message() const;
  // Runs `body` in a scope of its own into a buffer of its own.
  Flow capture(const Block& body, Output& output);
  static Value captured(Output& output, bool is_markup);

  Value eval(const Expr& expr);
  Value eval_inside(const Expr& expr);
  Value eval_name(const Expr& expr);
  Value eval_subscript(const Expr& expr);
  Value eval_call(const Expr& expr);
  Value eval_filter(const Expr& expr);
  Value eval_test(const Expr& expr);
  Value eval_compare(const Expr& expr);
  Value eval_concat(const Expr& expr);
  Value eval_condition(const Expr& expr);
  Value eval_dict(const Expr& expr);
  std::vector<Value> eval_items(const Expr& expr);
  Arguments eval_arguments(const CallArguments& arguments);
  std::optional<Value> lookup(NameId name) const;

  void assign(const Expr& target, const Value& value);
  Value make_macro(const MacroBody& macro);
  void push_scope();
  void pop_scope();

  const Program& program_;
  std::vector<std::optional<Value>> globals_;  // of each NameId
  std::optional<int64_t> now_;
  std::shared_ptr<Scope> root_, scope_;
  Output* output_ = nullptr;
  const Value* filter_input_ = nullptr;  // of a filter block's innermost filter
  bool autoescape_ = false;              // what filters and calls see: the {% autoescape %} entered last
  Escaping written_ = Escaping::off;     // what {{ }} and ~ do: the {% autoescape %} written around them
  int nesting_ = 0;
  // Namespaces and scopes of macros may refer to each other in circles; they are emptied at the end.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  std::vector<std::shared_ptr<Scope>> kept_scopes_;
};

// The functions every template has: range, dict, namespace, raise_exception, strftime_now, cycler, joiner.
std::vector<std::pair<std::string, Value>> global_functions();

}  // namespace serval::jinja
