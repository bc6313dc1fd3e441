// The `loop` variable of a for loop, which also walks the items: a filter of the loop is asked only when an
// item is needed, because what it reads may change while the loop runs.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "text/jinja/interpreter.h"

namespace serval::jinja {

class LoopObject : public Callable {
 public:
  using Test = std::function<bool(const Value&)>;
  LoopObject(const Stmt& statement, std::shared_ptr<Scope> scope, std::vector<Value> items, Test test,
             int64_t level);
  bool next();  // moves to the next item; false at the end
  const Value& current() const { return items_[static_cast<size_t>(index_)]; }
  void close();  // the loop is over

  Value call(Interpreter& interpreter, const Arguments& arguments) override;
  bool has_attribute(std::string_view what) const override;
  Value attribute(std::string_view what) override;
  Value cycle(const Arguments& arguments);
  Value changed(const Arguments& arguments);
  std::string describe() const override;

 private:
  bool fetch(int64_t index) const;  // whether item `index` exists
  int64_t length() const;

  const Stmt& statement_;
  std::shared_ptr<Scope> scope_;
  std::vector<Value> source_;
  Test test_;
  int64_t level_;  // of recursion
  int64_t index_ = -1;
  mutable size_t taken_ = 0;          // items of source_ that were looked at
  mutable std::vector<Value> items_;  // those that passed
  std::vector<Value> last_changed_;
  bool has_changed_ = false;
};

}  // namespace serval::jinja
