// The parsed template: expressions and statements. Names are numbered once, so that the evaluator compares
// numbers.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/operators.h"
#include "text/jinja/value.h"

namespace serval::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<std::unique_ptr<Stmt>>;
using NameId = int32_t;

enum class ExprKind : uint8_t {
  constant,     // value
  name,         // id
  attribute,    // items[0] . text
  subscript,    // items[0] [ items[1] ]
  slice,        // items[0] : items[1] : items[2], null where left out; only inside a subscript
  call,         // items[0] ( arguments )
  filter,       // items[0] | text ( arguments ); items[0] is null where a block gives the value
  test,         // items[0] is text ( arguments )
  unary,        // negative, positive, logical_not: text is "-", "+", "not"
  binary,       // items[0] op items[1]
  compare,      // items[0] comparisons[0] items[1] comparisons[1] ...
  logical_and,  // items[0] and items[1]
  logical_or,
  concat,     // items joined as text
  condition,  // items[0] if items[1] else items[2], null where left out
  list,
  tuple,
  dict,             // key, value, key, value, ...
  namespace_field,  // id . text, a target of {% set %}
};

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keyword;
  ExprPtr all_positional, all_keyword;  // *args, **kwargs
};

struct Expr {
  ExprKind kind = ExprKind::constant;
  uint32_t offset = 0;
  int32_t depth = 1;
  NameId id = -1;
  BinaryOp op = BinaryOp::add;
  Value value;
  std::string text;
  std::vector<ExprPtr> items;
  std::vector<CompareOp> comparisons;
  std::unique_ptr<CallArguments> arguments;
};

struct Parameter {
  NameId id = -1;
  std::string name;
  ExprPtr default_value;
};

// The callable part of {% macro %} and {% call %}.
struct MacroBody {
  std::string name;
  std::vector<Parameter> parameters;
  Block body;
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
};

enum class StmtKind : uint8_t {
  output,        // exprs, printed one after the other
  assign,        // target = exprs[0]
  assign_block,  // target = body, through filter exprs[0] where there is one
  if_chain,      // exprs[i] guards branches[i]; one branch more where there is an else
  for_loop,      // target in exprs[0], exprs[1] the filter or null; body, else branches[0]
  with,          // targets exprs[0], exprs[2], ... = exprs[1], exprs[3], ...; body
  macro,         // id, macro
  call_block,    // exprs[0] the call, macro the caller
  filter_block,  // exprs[0] the filter chain, body
  generation,    // body, whose text the assistant wrote
  autoescape,    // exprs[0], body
  block,         // text, body
  unavailable,   // extends, include, import, from: need a template loader
  break_loop,
  continue_loop,
};

struct Stmt {
  StmtKind kind = StmtKind::output;
  uint32_t offset = 0;
  NameId id = -1;
  bool recursive = false;  // of a for loop
  bool scoped = false;     // of a block
  std::string text;
  ExprPtr target;
  std::vector<ExprPtr> exprs;
  Block body;
  std::vector<Block> branches;
  std::unique_ptr<MacroBody> macro;
};

// A parsed template; immutable, may be rendered by several threads at once.
struct Program {
  std::string source;  // normalized; offsets refer to it
  Block body;
  std::vector<std::string> names;  // of each NameId
  std::vector<std::pair<std::string, const Stmt*>> blocks;
  bool has_generation = false;
};

// Names that the evaluator itself looks up; they come first in Program::names.
enum KnownName : NameId { kLoop = 0, kCaller = 1, kKwargs = 2, kVarargs = 3, kSelf = 4, kMessages = 5 };

}  // namespace serval::jinja
