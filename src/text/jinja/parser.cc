#include "text/jinja/parser.h"

#include <algorithm>
#include <optional>
#include <set>
#include <unordered_map>

#include "text/jinja/lexer.h"

namespace serval::jinja {
namespace {

Value integer_of(const Token& token) {
  return token.text.empty() ? Value(token.integer) : Value::integer(BigInteger::from_digits(token.text));
}

class Parser {
 public:
  Parser(std::string_view source, const Limits& limits) : limits_(limits) {
    program_ = std::make_shared<Program>();
    program_->source = normalize_source(source);
    for (const char* known : {"loop", "caller", "kwargs", "varargs", "self", "messages"}) name_id(known);
    tokens_ = tokenize(program_->source);
  }

  std::shared_ptr<const Program> run() {
    program_->body = parse_body({});
    if (!unknown_.empty()) error(unknown_.front().first, unknown_.front().second);
    return program_;
  }

 private:
  using Words = std::vector<std::string_view>;

  // Counts how deep the parser is in itself.
  struct Depth {
    explicit Depth(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > parser_.limits_.syntax_depth) parser_.error_too_deep(parser_.current().offset);
    }
    ~Depth() { parser_.depth_--; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    Parser& parser_;
  };

  [[noreturn]] static void error(uint32_t offset, const std::string& message) {
    throw TemplateError(message, offset);
  }
  [[noreturn]] void error_too_deep(uint32_t offset) const {
    error(offset, fmt::format("the template is nested too deeply (limit: {})", limits_.syntax_depth));
  }

  // ---- tokens ----

  const Token& current() const { return tokens_[position_]; }
  const Token& look() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  const Token& advance() {
    const Token& token = tokens_[position_];
    if (position_ + 1 < tokens_.size()) position_++;
    return token;
  }
  bool skip_op(std::string_view symbol) {
    if (!current().is_op(symbol)) return false;
    advance();
    return true;
  }
  bool skip_name(std::string_view word) {
    if (!current().is_name(word)) return false;
    advance();
    return true;
  }
  [[noreturn]] void error_expected(std::string_view what) const {
    if (current().type == TokenType::end)
      error(current().offset, fmt::format("unexpected end of template, expected '{}'.", what));
    error(current().offset, fmt::format("expected token '{}', got '{}'", what, current().describe()));
  }
  void expect_op(std::string_view symbol) {
    if (!skip_op(symbol)) error_expected(symbol);
  }
  void expect_name(std::string_view word) {
    if (!skip_name(word)) error_expected(word);
  }
  const Token& expect(TokenType type, std::string_view what) {
    if (current().type != type) error_expected(what);
    return advance();
  }
  const Token& expect_any_name() { return expect(TokenType::name, "name"); }

  NameId name_id(const std::string& name) {
    const auto [it, is_new] = ids_.emplace(name, static_cast<NameId>(program_->names.size()));
    if (is_new) program_->names.push_back(name);
    return it->second;
  }

  // ---- nodes ----

  static ExprPtr make(ExprKind kind, uint32_t offset) {
    auto node = std::make_unique<Expr>();
    node->kind = kind;
    node->offset = offset;
    return node;
  }

  // To be called once the children are in place: chains such as a + b + c ... are as deep as they are long.
  ExprPtr finish(ExprPtr node) const {
    const auto include = [&](const ExprPtr& child) {
      if (child != nullptr) node->depth = std::max(node->depth, child->depth + 1);
    };
    for (const ExprPtr& item : node->items) include(item);
    if (node->arguments != nullptr) {
      for (const ExprPtr& item : node->arguments->positional) include(item);
      for (const auto& item : node->arguments->keyword) include(item.second);
      include(node->arguments->all_positional);
      include(node->arguments->all_keyword);
    }
    if (node->depth > limits_.syntax_depth) error_too_deep(node->offset);
    return node;
  }

  ExprPtr make_pair(ExprKind kind, uint32_t offset, ExprPtr a, ExprPtr b) const {
    ExprPtr node = make(kind, offset);
    node->items.push_back(std::move(a));
    node->items.push_back(std::move(b));
    return finish(std::move(node));
  }

  // `and` and `or`. As jinja2, a constant on the left decides at once.
  ExprPtr make_choice(ExprKind kind, uint32_t offset, ExprPtr a, ExprPtr b) const {
    if (a->kind != ExprKind::constant) return make_pair(kind, offset, std::move(a), std::move(b));
    return a->value.truthy() == (kind == ExprKind::logical_or) ? std::move(a) : std::move(b);
  }

  static std::unique_ptr<Stmt> make_stmt(StmtKind kind, uint32_t offset) {
    auto node = std::make_unique<Stmt>();
    node->kind = kind;
    node->offset = offset;
    return node;
  }

  // ---- statements ----

  // Up to a tag named in `ends`, whose name is then current; to the end of the template where `ends` is
  // empty.
  Block parse_body(const Words& ends) {
    Block body;
    if (!ends.empty()) end_words_.push_back(ends);
    const auto output = [&]() -> Stmt& {
      if (body.empty() || body.back()->kind != StmtKind::output || !merge_output_)
        body.push_back(make_stmt(StmtKind::output, current().offset));
      merge_output_ = true;
      return *body.back();
    };
    merge_output_ = false;
    while (current().type != TokenType::end) {
      const Token& token = current();
      if (token.type == TokenType::data) {
        ExprPtr text = make(ExprKind::constant, token.offset);
        text->value = Value::markup(token.text);
        output().exprs.push_back(std::move(text));
        advance();
      } else if (token.type == TokenType::variable_begin) {
        Stmt& statement = output();
        advance();
        statement.exprs.push_back(parse_tuple({}, true, false));
        expect(TokenType::variable_end, "end of print statement");
      } else {
        expect(TokenType::block_begin, "begin of statement block");
        if (current().type == TokenType::name &&
            std::find(ends.begin(), ends.end(), current().text) != ends.end()) {
          end_words_.pop_back();
          merge_output_ = false;
          return body;
        }
        body.push_back(parse_statement());
        merge_output_ = false;
        expect(TokenType::block_end, "end of statement block");
      }
    }
    if (!ends.empty()) error_unknown_tag(std::nullopt, current().offset);
    return body;
  }

  // The rest of an opening tag, then the statements up to one of `ends`, whose name is current afterwards.
  Block parse_block(const Words& ends) {
    skip_op(":");
    expect(TokenType::block_end, "end of statement block");
    return parse_body(ends);
  }
  Block parse_block_to(std::string_view end) {
    Block body = parse_block({end});
    advance();
    return body;
  }

  [[noreturn]] void error_unknown_tag(const std::optional<std::string>& tag, uint32_t offset) const {
    std::string message =
        tag.has_value() ? fmt::format("Encountered unknown tag '{}'.", *tag) : "Unexpected end of template.";
    if (!end_words_.empty()) {
      std::string wanted;
      for (const std::string_view word : end_words_.back())
        wanted += fmt::format("{}'{}'", wanted.empty() ? "" : " or ", word);
      bool is_end_word = false;
      for (const Words& words : end_words_)
        is_end_word = is_end_word || (tag && std::find(words.begin(), words.end(), *tag) != words.end());
      message += is_end_word
                     ? " You probably made a nesting mistake. Jinja is expecting this tag, but currently"
                       " looking for " +
                           wanted + "."
                     : " Jinja was looking for the following tags: " + wanted + ".";
    }
    if (!tags_.empty())
      message += fmt::format(" The innermost block that needs to be closed is '{}'.", tags_.back());
    error(offset, message);
  }

  std::unique_ptr<Stmt> parse_statement() {
    const Depth depth(*this);
    if (current().type != TokenType::name) error(current().offset, "tag name expected");
    const std::string tag = current().text;
    const uint32_t offset = current().offset;
    using Parse = std::unique_ptr<Stmt> (Parser::*)(uint32_t);
    static const std::unordered_map<std::string_view, Parse> kStatements = {
        {"for", &Parser::parse_for},
        {"if", &Parser::parse_if},
        {"set", &Parser::parse_set},
        {"macro", &Parser::parse_macro},
        {"call", &Parser::parse_call_block},
        {"filter", &Parser::parse_filter_block},
        {"with", &Parser::parse_with},
        {"print", &Parser::parse_print},
        {"generation", &Parser::parse_generation},
        {"autoescape", &Parser::parse_autoescape},
        {"block", &Parser::parse_named_block},
        {"break", &Parser::parse_loop_control},
        {"continue", &Parser::parse_loop_control},
        {"extends", &Parser::parse_unavailable},
        {"include", &Parser::parse_unavailable},
        {"import", &Parser::parse_unavailable},
        {"from", &Parser::parse_unavailable},
    };
    const auto parse = kStatements.find(tag);
    if (parse == kStatements.end()) error_unknown_tag(tag, offset);
    tags_.push_back(tag);
    std::unique_ptr<Stmt> statement = (this->*parse->second)(offset);
    tags_.pop_back();
    return statement;
  }

  std::unique_ptr<Stmt> parse_for(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::for_loop, offset);
    loops_++;  // "loop" cannot be a target from here on
    node->target = parse_target({"in"}, false);
    expect_name("in");
    loops_--;
    node->exprs.push_back(parse_tuple({"recursive"}, false, false));
    const bool saved = std::exchange(may_be_unknown_, false);
    node->exprs.push_back(skip_name("if") ? parse_expression() : nullptr);
    may_be_unknown_ = saved;
    node->recursive = skip_name("recursive");
    loops_++;
    open_loops_++;
    node->body = parse_scope({"endfor", "else"});
    open_loops_--;
    if (advance().text == "else") node->branches.push_back(parse_scope_to("endfor"));
    loops_--;
    return node;
  }

  void note_unknown(uint32_t offset, std::string message) {
    if (!may_be_unknown_) unknown_.emplace_back(offset, std::move(message));
  }

  // The body of a statement that has a scope of its own.
  Block parse_scope(const Words& ends) {
    const bool saved = std::exchange(may_be_unknown_, false);
    Block body = parse_block(ends);
    may_be_unknown_ = saved;
    return body;
  }
  Block parse_scope_to(std::string_view end) {
    const bool saved = std::exchange(may_be_unknown_, false);
    Block body = parse_block_to(end);
    may_be_unknown_ = saved;
    return body;
  }

  std::unique_ptr<Stmt> parse_if(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::if_chain, offset);
    const bool saved = std::exchange(may_be_unknown_, true);
    while (true) {
      node->exprs.push_back(parse_tuple({}, false, false));
      node->branches.push_back(parse_block({"elif", "else", "endif"}));
      const std::string& word = advance().text;
      if (word == "elif") continue;
      if (word == "else") node->branches.push_back(parse_block_to("endif"));
      break;
    }
    may_be_unknown_ = saved;
    return node;
  }

  std::unique_ptr<Stmt> parse_set(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::assign, offset);
    node->target = parse_target({}, true);
    if (skip_op("=")) {
      node->exprs.push_back(parse_tuple({}, true, false));
      return node;
    }
    node->kind = StmtKind::assign_block;
    if (current().is_op("|")) node->exprs.push_back(parse_filters(nullptr));
    node->body = parse_scope_to("endset");
    return node;
  }

  // A macro's body is a function of its own: a loop outside of it cannot be left from inside.
  void parse_macro_body(MacroBody& macro, std::string_view end) {
    const int open_loops = std::exchange(open_loops_, 0);
    macros_.push_back(&macro);
    macro.body = parse_scope_to(end);
    macros_.pop_back();
    open_loops_ = open_loops;
    for (const Parameter& parameter : macro.parameters)
      if (parameter.id == kCaller && parameter.default_value == nullptr && macro.uses_caller)
        error(current().offset,
              "the special \"caller\" argument of a macro must be omitted or have a default");
  }

  void parse_parameters(MacroBody& macro) {
    expect_op("(");
    while (!current().is_op(")")) {
      if (!macro.parameters.empty()) expect_op(",");
      const Token& name = expect_any_name();
      Parameter parameter;
      parameter.name = name.text;
      parameter.id = name_id(name.text);
      check_target_name(name);
      for (const Parameter& other : macro.parameters)
        if (other.id == parameter.id)
          error(name.offset, fmt::format("duplicate argument '{}' in macro definition", name.text));
      if (skip_op("="))
        parameter.default_value = parse_expression();
      else if (!macro.parameters.empty() && macro.parameters.back().default_value != nullptr)
        error(name.offset, "non-default argument follows default argument");
      macro.parameters.push_back(std::move(parameter));
    }
    expect_op(")");
  }

  std::unique_ptr<Stmt> parse_macro(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::macro, offset);
    const Token& name = expect_any_name();
    check_target_name(name);
    node->id = name_id(name.text);
    node->macro = std::make_unique<MacroBody>();
    node->macro->name = name.text;
    parse_parameters(*node->macro);
    parse_macro_body(*node->macro, "endmacro");
    return node;
  }

  std::unique_ptr<Stmt> parse_call_block(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::call_block, offset);
    node->macro = std::make_unique<MacroBody>();
    node->macro->name = "caller";
    if (current().is_op("(")) parse_parameters(*node->macro);
    ExprPtr call = parse_expression();
    if (call->kind != ExprKind::call) error(offset, "expected call");
    node->exprs.push_back(std::move(call));
    parse_macro_body(*node->macro, "endcall");
    return node;
  }

  std::unique_ptr<Stmt> parse_filter_block(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::filter_block, offset);
    const bool saved = std::exchange(may_be_unknown_, false);
    node->exprs.push_back(parse_filters(parse_one_filter(nullptr)));
    may_be_unknown_ = saved;
    node->body = parse_scope_to("endfilter");
    return node;
  }

  std::unique_ptr<Stmt> parse_with(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::with, offset);
    while (current().type != TokenType::block_end && !current().is_op(":")) {
      if (!node->exprs.empty()) expect_op(",");
      node->exprs.push_back(parse_target({}, false));
      expect_op("=");
      node->exprs.push_back(parse_expression());
    }
    node->body = parse_scope_to("endwith");
    return node;
  }

  std::unique_ptr<Stmt> parse_print(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::output, offset);
    while (current().type != TokenType::block_end) {
      if (!node->exprs.empty()) expect_op(",");
      node->exprs.push_back(parse_expression());
    }
    return node;
  }

  std::unique_ptr<Stmt> parse_generation(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::generation, offset);
    program_->has_generation = true;
    const int open_loops = std::exchange(open_loops_, 0);
    node->body = parse_scope_to("endgeneration");
    open_loops_ = open_loops;
    return node;
  }

  std::unique_ptr<Stmt> parse_autoescape(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::autoescape, offset);
    node->exprs.push_back(parse_expression());
    node->body = parse_scope_to("endautoescape");
    return node;
  }

  std::unique_ptr<Stmt> parse_named_block(uint32_t offset) {
    advance();
    auto node = make_stmt(StmtKind::block, offset);
    node->text = expect_any_name().text;
    node->scoped = skip_name("scoped");
    skip_name("required");
    for (const auto& [name, other] : program_->blocks)
      if (name == node->text) error(offset, fmt::format("block '{}' defined twice", name));
    program_->blocks.emplace_back(node->text, node.get());
    const int open_loops = std::exchange(open_loops_, 0);
    node->body = parse_scope_to("endblock");
    open_loops_ = open_loops;
    skip_name(node->text);
    return node;
  }

  std::unique_ptr<Stmt> parse_loop_control(uint32_t offset) {
    const std::string word = advance().text;
    if (open_loops_ == 0) error(offset, fmt::format("'{}' outside loop", word));
    return make_stmt(word == "break" ? StmtKind::break_loop : StmtKind::continue_loop, offset);
  }

  std::unique_ptr<Stmt> parse_unavailable(uint32_t offset) {
    auto node = make_stmt(StmtKind::unavailable, offset);
    node->text = advance().text;
    while (current().type != TokenType::block_end && current().type != TokenType::end) advance();
    return node;
  }

  // ---- targets of assignments ----

  void check_target_name(const Token& name) const {
    static const std::set<std::string_view> kConstants = {"true", "false", "none", "True", "False", "None"};
    if (kConstants.count(name.text) > 0) error(name.offset, "can't assign to 'const'");
    if (loops_ > 0 && name.text == "loop")
      error(name.offset, "Can't assign to special loop variable in for-loop target");
  }

  void check_target(const Expr& target) const {
    if (target.kind == ExprKind::tuple) {
      for (const ExprPtr& item : target.items) check_target(*item);
      return;
    }
    if (target.kind != ExprKind::name && target.kind != ExprKind::namespace_field)
      error(target.offset, fmt::format("can't assign to '{}'", kind_name(target.kind)));
    if (loops_ > 0 && target.kind == ExprKind::name && target.id == kLoop)
      error(target.offset, "Can't assign to special loop variable in for-loop target");
  }

  static const char* kind_name(ExprKind kind) {
    switch (kind) {
      case ExprKind::constant:
        return "const";
      case ExprKind::list:
        return "list";
      case ExprKind::dict:
        return "dict";
      default:
        return "expression";
    }
  }

  ExprPtr parse_target(const Words& ends, bool with_namespace) {
    in_target_ = true;
    namespace_targets_ = with_namespace;
    ExprPtr target = parse_tuple(ends, true, false);
    check_target(*target);
    in_target_ = false;
    return target;
  }

  // ---- expressions, loosest first ----

  bool at_tuple_end(const Words& ends) const {
    const Token& token = current();
    if (token.type == TokenType::variable_end || token.type == TokenType::block_end || token.is_op(")"))
      return true;
    return token.type == TokenType::name && std::find(ends.begin(), ends.end(), token.text) != ends.end();
  }

  // An expression, or a tuple where commas follow. A target is made of names only.
  ExprPtr parse_tuple(const Words& ends, bool with_condition, bool in_brackets) {
    const uint32_t offset = current().offset;
    const bool is_target = in_target_;
    std::vector<ExprPtr> items;
    bool is_tuple = false;
    while (true) {
      if (!items.empty()) expect_op(",");
      if (at_tuple_end(ends)) break;
      items.push_back(is_target ? parse_primary() : with_condition ? parse_expression() : parse_or());
      if (!current().is_op(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items.front());
    if (!is_tuple && !in_brackets)
      error(current().offset, fmt::format("Expected an expression, got '{}'", current().describe()));
    ExprPtr node = make(ExprKind::tuple, offset);
    node->items = std::move(items);
    return finish(std::move(node));
  }

  ExprPtr parse_expression() {
    const Depth depth(*this);
    const uint32_t offset = current().offset;
    const size_t unknown = unknown_.size();
    ExprPtr value = parse_or();
    while (skip_name("if")) {
      ExprPtr node = make(ExprKind::condition, offset);
      node->items.push_back(std::move(value));
      node->items.push_back(parse_or());
      node->items.push_back(skip_name("else") ? parse_expression() : nullptr);
      value = finish(std::move(node));
      unknown_.resize(unknown);
    }
    return value;
  }

  ExprPtr parse_or() {
    const uint32_t offset = current().offset;
    ExprPtr left = parse_and();
    while (skip_name("or")) left = make_choice(ExprKind::logical_or, offset, std::move(left), parse_and());
    return left;
  }

  ExprPtr parse_and() {
    const uint32_t offset = current().offset;
    ExprPtr left = parse_not();
    while (skip_name("and")) left = make_choice(ExprKind::logical_and, offset, std::move(left), parse_not());
    return left;
  }

  ExprPtr make_unary(const char* op, uint32_t offset, ExprPtr operand) const {
    ExprPtr node = make(ExprKind::unary, offset);
    node->text = op;
    node->items.push_back(std::move(operand));
    return finish(std::move(node));
  }

  ExprPtr parse_not() {
    if (!current().is_name("not")) return parse_compare();
    const Depth depth(*this);
    const uint32_t offset = advance().offset;
    return make_unary("not", offset, parse_not());
  }

  std::optional<CompareOp> skip_comparison() {
    static const std::unordered_map<std::string_view, CompareOp> kOps = {
        {"==", CompareOp::eq}, {"!=", CompareOp::ne}, {"<", CompareOp::lt},
        {"<=", CompareOp::le}, {">", CompareOp::gt},  {">=", CompareOp::ge}};
    if (current().type == TokenType::op) {
      const auto op = kOps.find(current().text);
      if (op == kOps.end()) return std::nullopt;
      advance();
      return op->second;
    }
    if (skip_name("in")) return CompareOp::in;
    if (!current().is_name("not") || !look().is_name("in")) return std::nullopt;
    advance();
    advance();
    return CompareOp::not_in;
  }

  ExprPtr parse_compare() {
    const uint32_t offset = current().offset;
    ExprPtr first = parse_sum();
    std::optional<CompareOp> op = skip_comparison();
    if (!op.has_value()) return first;
    ExprPtr node = make(ExprKind::compare, offset);
    node->items.push_back(std::move(first));
    while (op.has_value()) {
      node->comparisons.push_back(*op);
      node->items.push_back(parse_sum());
      op = skip_comparison();
    }
    return finish(std::move(node));
  }

  ExprPtr make_binary(BinaryOp op, uint32_t offset, ExprPtr a, ExprPtr b) const {
    ExprPtr node = make_pair(ExprKind::binary, offset, std::move(a), std::move(b));
    node->op = op;
    return node;
  }

  ExprPtr parse_sum() {
    const uint32_t offset = current().offset;
    ExprPtr left = parse_concat();
    while (current().is_op("+") || current().is_op("-")) {
      const BinaryOp op = advance().text == "+" ? BinaryOp::add : BinaryOp::subtract;
      left = make_binary(op, offset, std::move(left), parse_concat());
    }
    return left;
  }

  ExprPtr parse_concat() {
    const uint32_t offset = current().offset;
    ExprPtr first = parse_product();
    if (!current().is_op("~")) return first;
    ExprPtr node = make(ExprKind::concat, offset);
    node->items.push_back(std::move(first));
    while (skip_op("~")) node->items.push_back(parse_product());
    return finish(std::move(node));
  }

  ExprPtr parse_product() {
    static const std::unordered_map<std::string_view, BinaryOp> kOps = {{"*", BinaryOp::multiply},
                                                                        {"/", BinaryOp::divide},
                                                                        {"//", BinaryOp::floor_divide},
                                                                        {"%", BinaryOp::modulo}};
    const uint32_t offset = current().offset;
    ExprPtr left = parse_power();
    while (current().type == TokenType::op) {
      const auto op = kOps.find(current().text);
      if (op == kOps.end()) break;
      advance();
      left = make_binary(op->second, offset, std::move(left), parse_power());
    }
    return left;
  }

  ExprPtr parse_power() {
    const uint32_t offset = current().offset;
    ExprPtr left = parse_unary(true);
    while (skip_op("**")) left = make_binary(BinaryOp::power, offset, std::move(left), parse_unary(true));
    return left;
  }

  ExprPtr parse_unary(bool with_filters) {
    const Depth depth(*this);
    const uint32_t offset = current().offset;
    ExprPtr node;
    if (skip_op("-"))
      node = make_unary("-", offset, parse_unary(false));
    else if (skip_op("+"))
      node = make_unary("+", offset, parse_unary(false));
    else
      node = parse_primary();
    node = parse_postfix(std::move(node));
    return with_filters ? parse_filters_and_tests(std::move(node)) : std::move(node);
  }

  ExprPtr parse_primary() {
    const Depth depth(*this);
    const bool is_target = in_target_, with_namespace = in_target_ && namespace_targets_;
    const Token& token = current();
    if (token.type == TokenType::name) {
      advance();
      return parse_name(token, is_target, with_namespace);
    }
    ExprPtr node = make(ExprKind::constant, token.offset);
    if (token.type == TokenType::string) {
      std::string text;
      while (current().type == TokenType::string) text += advance().text;
      node->value = Value(std::move(text));
      return node;
    }
    if (token.type == TokenType::integer || token.type == TokenType::real) {
      node->value = token.type == TokenType::integer ? integer_of(token) : Value(token.real);
      advance();
      return node;
    }
    if (skip_op("(")) {
      const bool saved = std::exchange(in_target_, false);
      node = parse_tuple({}, true, true);
      in_target_ = saved;
      expect_op(")");
      return node;
    }
    const bool saved = std::exchange(in_target_, false);
    if (token.is_op("["))
      node = parse_list();
    else if (token.is_op("{"))
      node = parse_dict();
    else
      error(token.offset, fmt::format("unexpected '{}'", token.describe()));
    in_target_ = saved;
    return node;
  }

  ExprPtr parse_name(const Token& token, bool is_target, bool with_namespace) {
    const std::string& word = token.text;
    ExprPtr node = make(ExprKind::constant, token.offset);
    if (word == "true" || word == "True" || word == "false" || word == "False") {
      node->value = Value(word == "true" || word == "True");
      return node;
    }
    if (word == "none" || word == "None") return node;
    node->kind = ExprKind::name;
    node->id = name_id(word);
    if (with_namespace && skip_op(".")) {
      node->kind = ExprKind::namespace_field;
      node->text = expect_any_name().text;
      return node;
    }
    if (!is_target)
      for (MacroBody* macro : macros_) {
        macro->uses_caller = macro->uses_caller || node->id == kCaller;
        macro->uses_kwargs = macro->uses_kwargs || node->id == kKwargs;
        macro->uses_varargs = macro->uses_varargs || node->id == kVarargs;
      }
    return node;
  }

  ExprPtr parse_list() {
    ExprPtr node = make(ExprKind::list, advance().offset);
    while (!current().is_op("]")) {
      if (!node->items.empty()) expect_op(",");
      if (current().is_op("]")) break;
      node->items.push_back(parse_expression());
    }
    expect_op("]");
    return finish(std::move(node));
  }

  ExprPtr parse_dict() {
    ExprPtr node = make(ExprKind::dict, advance().offset);
    while (!current().is_op("}")) {
      if (!node->items.empty()) expect_op(",");
      if (current().is_op("}")) break;
      node->items.push_back(parse_expression());
      expect_op(":");
      node->items.push_back(parse_expression());
    }
    expect_op("}");
    return finish(std::move(node));
  }

  ExprPtr parse_postfix(ExprPtr node) {
    while (true) {
      if (current().is_op("."))
        node = parse_attribute(std::move(node));
      else if (current().is_op("["))
        node = parse_subscript(std::move(node));
      else if (current().is_op("("))
        node = parse_call(std::move(node));
      else
        return node;
    }
  }

  ExprPtr parse_filters_and_tests(ExprPtr node) {
    while (true) {
      if (current().is_op("|"))
        node = parse_filters(std::move(node));
      else if (current().is_name("is"))
        node = parse_test(std::move(node));
      else if (current().is_op("("))
        node = parse_call(std::move(node));
      else
        return node;
    }
  }

  ExprPtr parse_attribute(ExprPtr object) {
    const uint32_t offset = advance().offset;
    const Token& name = advance();
    if (name.type == TokenType::name) {
      ExprPtr node = make(ExprKind::attribute, offset);
      node->text = name.text;
      node->items.push_back(std::move(object));
      return finish(std::move(node));
    }
    if (name.type != TokenType::integer) error(name.offset, "expected name or number");
    ExprPtr index = make(ExprKind::constant, name.offset);
    index->value = integer_of(name);
    return make_pair(ExprKind::subscript, offset, std::move(object), std::move(index));
  }

  ExprPtr parse_subscript(ExprPtr object) {
    const uint32_t offset = advance().offset;
    std::vector<ExprPtr> keys;
    while (!current().is_op("]")) {
      if (!keys.empty()) expect_op(",");
      keys.push_back(parse_key());
    }
    expect_op("]");
    ExprPtr key;
    if (keys.size() == 1) {
      key = std::move(keys.front());
    } else {
      for (const ExprPtr& item : keys)
        if (item->kind == ExprKind::slice) error(item->offset, "a slice cannot be part of a tuple");
      key = make(ExprKind::tuple, offset);
      key->items = std::move(keys);
      key = finish(std::move(key));
    }
    return make_pair(ExprKind::subscript, offset, std::move(object), std::move(key));
  }

  ExprPtr parse_key() {
    const uint32_t offset = current().offset;
    ExprPtr first;
    if (!current().is_op(":")) {
      first = parse_expression();
      if (!current().is_op(":")) return first;
    }
    advance();
    const auto at_end = [&] { return current().is_op("]") || current().is_op(",") || current().is_op(":"); };
    ExprPtr node = make(ExprKind::slice, offset);
    node->items.push_back(std::move(first));
    node->items.push_back(at_end() ? nullptr : parse_expression());
    node->items.push_back(skip_op(":") && !at_end() ? parse_expression() : nullptr);
    return finish(std::move(node));
  }

  std::unique_ptr<CallArguments> parse_arguments() {
    const uint32_t offset = current().offset;
    expect_op("(");
    auto arguments = std::make_unique<CallArguments>();
    std::set<std::string> seen;
    const auto ensure = [&](bool valid) {
      if (!valid) error(offset, "invalid syntax for function call expression");
    };
    bool is_first = true;
    while (!current().is_op(")")) {
      if (!is_first) {
        expect_op(",");
        if (current().is_op(")")) break;
      }
      is_first = false;
      if (skip_op("*")) {
        ensure(arguments->all_positional == nullptr && arguments->all_keyword == nullptr);
        arguments->all_positional = parse_expression();
      } else if (skip_op("**")) {
        ensure(arguments->all_keyword == nullptr);
        arguments->all_keyword = parse_expression();
      } else if (current().type == TokenType::name && look().is_op("=")) {
        ensure(arguments->all_keyword == nullptr);
        const Token& name = advance();
        advance();
        if (!seen.insert(name.text).second)
          error(name.offset, fmt::format("keyword argument repeated: {}", name.text));
        arguments->keyword.emplace_back(name.text, parse_expression());
      } else {
        ensure(arguments->all_positional == nullptr && arguments->all_keyword == nullptr &&
               arguments->keyword.empty());
        arguments->positional.push_back(parse_expression());
      }
    }
    expect_op(")");
    return arguments;
  }

  ExprPtr parse_call(ExprPtr callee) {
    ExprPtr node = make(ExprKind::call, current().offset);
    node->items.push_back(std::move(callee));
    node->arguments = parse_arguments();
    return finish(std::move(node));
  }

  std::string parse_dotted_name() {
    std::string name = expect_any_name().text;
    while (skip_op(".")) name += "." + expect_any_name().text;
    return name;
  }

  // One filter, at its name.
  ExprPtr parse_one_filter(ExprPtr value) {
    ExprPtr node = make(ExprKind::filter, current().offset);
    node->text = parse_dotted_name();
    if (!is_filter(node->text)) note_unknown(node->offset, fmt::format("No filter named '{}'.", node->text));
    node->items.push_back(std::move(value));
    node->arguments = current().is_op("(") ? parse_arguments() : std::make_unique<CallArguments>();
    return finish(std::move(node));
  }

  ExprPtr parse_filters(ExprPtr value) {
    while (skip_op("|")) value = parse_one_filter(std::move(value));
    return value;
  }

  ExprPtr parse_test(ExprPtr value) {
    const uint32_t offset = advance().offset;
    const bool negated = skip_name("not");
    ExprPtr node = make(ExprKind::test, offset);
    node->text = parse_dotted_name();
    if (!is_test(node->text)) note_unknown(node->offset, fmt::format("No test named '{}'.", node->text));
    node->items.push_back(std::move(value));
    const Token& next = current();
    const bool is_operand = next.type == TokenType::name || next.type == TokenType::string ||
                            next.type == TokenType::integer || next.type == TokenType::real ||
                            next.is_op("[") || next.is_op("{");
    if (next.is_op("(")) {
      node->arguments = parse_arguments();
    } else {
      node->arguments = std::make_unique<CallArguments>();
      if (is_operand && !next.is_name("else") && !next.is_name("or") && !next.is_name("and")) {
        if (next.is_name("is")) error(next.offset, "You cannot chain multiple tests with is");
        node->arguments->positional.push_back(parse_postfix(parse_primary()));
      }
    }
    node = finish(std::move(node));
    return negated ? make_unary("not", offset, std::move(node)) : std::move(node);
  }

  const Limits& limits_;
  std::shared_ptr<Program> program_;
  std::vector<Token> tokens_;
  size_t position_ = 0;
  int depth_ = 0;
  int loops_ = 0;       // for loops around, macros or not
  int open_loops_ = 0;  // loops that a break here would leave
  bool in_target_ = false, namespace_targets_ = false;
  bool merge_output_ = false;
  std::unordered_map<std::string, NameId> ids_;
  std::vector<MacroBody*> macros_;
  std::vector<std::string> tags_;
  std::vector<Words> end_words_;
  std::vector<std::pair<uint32_t, std::string>> unknown_;  // filters and tests that do not exist
  // A branch of an {% if %} may ask for what only another jinja2 has; statements inside of it that have a
  // scope of their own may not.
  bool may_be_unknown_ = false;
};

}  // namespace

std::shared_ptr<const Program> parse_template(std::string_view source, const Limits& limits) {
  if (static_cast<int64_t>(source.size()) > limits.source_bytes)
    throw TemplateError(
        fmt::format("the template has {} bytes (limit: {})", source.size(), limits.source_bytes), 0);
  return Parser(source, limits).run();
}

}  // namespace serval::jinja
