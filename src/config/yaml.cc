#include "config/yaml.h"

#include <fmt/core.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "base/error.h"

namespace serval {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxDepth = 8;
constexpr int64_t kMaxValues = 20000;

// Builds a RawValue from the parser's events. Limits are checked as events arrive, before the parser
// recurses.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(std::string file) : file_(std::move(file)) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    place(RawValue{}, mark);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail_usage("{}: an alias (*name) is not read here; write the value out", at(mark));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    const bool quoted = tag == "!";
    const bool null = !quoted && (value == "~" || value == "null" || value == "Null" || value == "NULL");
    place(null ? RawValue{} : RawValue::scalar(value, {}), mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(RawValue::Form::list, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(RawValue::Form::map, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

  RawValue& root() { return root_; }

 private:
  struct Open {
    RawValue value;
    std::string key;
    std::string key_where;
    bool has_key = false;
  };

  std::string at(const YAML::Mark& mark) const { return fmt::format("{}:{}", file_, mark.line + 1); }

  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != 0) fail_usage("{}: an anchor (&name) is not read here; remove it", at(mark));
  }
  // The parser gives "?" for a plain value and "!" for a quoted one.
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (tag.empty() || tag == "?" || tag == "!") return;
    fail_usage("{}: a tag ({}) is not read here; remove it", at(mark), shown(tag));
  }

  void open(RawValue::Form form, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (stack_.size() >= kMaxDepth) fail_usage("{}: nested more than {} deep", at(mark), kMaxDepth);
    if (!stack_.empty() && stack_.back().value.form == RawValue::Form::map && !stack_.back().has_key)
      fail_usage("{}: a key must be a name, not a list or a map", at(mark));
    Open entry;
    entry.value.form = form;
    entry.value.where = at(mark);
    stack_.push_back(std::move(entry));
  }

  void close() {
    RawValue value = std::move(stack_.back().value);
    stack_.pop_back();
    add(std::move(value));
  }

  void place(RawValue value, const YAML::Mark& mark) {
    value.where = at(mark);
    if (++values_ > kMaxValues) fail_usage("{}: more than {} values", at(mark), kMaxValues);
    if (!stack_.empty() && stack_.back().value.form == RawValue::Form::map && !stack_.back().has_key)
      return take_key(value);
    add(std::move(value));
  }

  void take_key(const RawValue& value) {
    Open& map = stack_.back();
    if (value.form != RawValue::Form::scalar) fail_usage("{}: a key is missing before ':'", value.where);
    for (size_t i = 0; i < map.value.names.size(); ++i)
      if (map.value.names[i] == value.text)
        fail_usage("{}: key {} is given twice (first at {})", value.where, shown(value.text),
                   map.value.items[i].where);
    map.key = value.text;
    map.key_where = value.where;
    map.has_key = true;
  }

  void add(RawValue value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return;
    }
    Open& parent = stack_.back();
    if (parent.value.form == RawValue::Form::list) {
      parent.value.items.push_back(std::move(value));
      return;
    }
    // The parser marks an absent value where the next token stands.
    if (value.form == RawValue::Form::null) value.where = parent.key_where;
    parent.value.names.push_back(std::move(parent.key));
    parent.value.items.push_back(std::move(value));
    parent.key.clear();
    parent.has_key = false;
  }

  std::string file_;
  std::vector<Open> stack_;
  RawValue root_;
  int64_t values_ = 0;
};

}  // namespace

std::vector<std::pair<std::string, RawValue>> parse_yaml(std::string_view text, const std::string& where) {
  if (text.size() > kMaxBytes)
    fail_usage("{}: {} bytes is too large for a configuration (at most {})", where, text.size(), kMaxBytes);
  if (text.find('\0') != std::string_view::npos)
    fail_usage("{}: holds a zero byte, so this is not a YAML file", where);
  std::istringstream stream{std::string(text)};
  Builder builder(where);
  Builder rest(where);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    if (parser.HandleNextDocument(rest))
      fail_usage("{}: holds more than one YAML document; one is expected", where);
  } catch (const YAML::Exception& error) {
    fail_usage("{}:{}: not valid YAML: {}", where, error.mark.line + 1, error.msg);
  }
  RawValue& root = builder.root();
  if (root.form == RawValue::Form::null) return {};
  if (root.form != RawValue::Form::map)
    fail_usage("{}: expected lines of 'key: value', found {}", root.where, shown(root));
  std::vector<std::pair<std::string, RawValue>> members;
  for (size_t i = 0; i < root.items.size(); ++i)
    members.emplace_back(std::move(root.names[i]), std::move(root.items[i]));
  return members;
}

}  // namespace serval
