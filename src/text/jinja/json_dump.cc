// Values as json.dumps writes them.
#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

class Dumper {
 public:
  explicit Dumper(const JsonStyle& style) : style_(style) {}

  // NOLINTNEXTLINE(misc-no-recursion): values are nested at most Limits::value_depth deep
  void write(const Value& value, int level) {
    spend();
    check_text_size(static_cast<int64_t>(out_.size()));
    switch (value.type()) {
      case Type::none:
        out_ += "null";
        return;
      case Type::boolean:
        out_ += value.as_bool() ? "true" : "false";
        return;
      case Type::integer:
        out_ += std::to_string(value.as_int());
        return;
      case Type::big_integer:
        out_ += value.big().text();
        return;
      case Type::real:
        out_ += number(value.as_real());
        return;
      case Type::string:
        write_string(value.text());
        return;
      case Type::dict:
        write_dict(value.dict(), level);
        return;
      case Type::sequence:
        if (value.sequence().kind == Sequence::Kind::list || value.sequence().kind == Sequence::Kind::tuple) {
          write_list(value.sequence(), level);
          return;
        }
        [[fallthrough]];
      default:
        raise("Object of type {} is not JSON serializable", value.type_name());
    }
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return python_float_repr(value);
  }

  void write_string(const std::string& text) {
    spend_bytes(static_cast<int64_t>(text.size()));
    if (!style_.ensure_ascii) {
      out_ += json_quote(text);
      return;
    }
    const std::string quoted = json_quote(text);
    for (size_t i = 0; i < quoted.size();) {
      const char32_t c = next_code_point(quoted, i);
      if (c < 0x7F) {
        out_ += static_cast<char>(c);
      } else if (c < 0x10000) {
        out_ += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
      } else {
        const uint32_t rest = static_cast<uint32_t>(c) - 0x10000;
        out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
      }
    }
  }

  void new_line(int level) {
    if (!style_.pretty) return;
    out_ += '\n';
    for (int i = 0; i < level; i++) out_ += style_.indent;
  }

  void write_list(const Sequence& list, int level) {
    if (list.items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    for (size_t i = 0; i < list.items.size(); i++) {
      if (i > 0) out_ += style_.item_separator;
      new_line(level + 1);
      write(list.items[i], level + 1);
    }
    new_line(level);
    out_ += ']';
  }

  std::string key_text(const Value& key) const {
    switch (key.type()) {
      case Type::string:
        return key.text();
      case Type::none:
        return "null";
      case Type::boolean:
        return key.as_bool() ? "true" : "false";
      case Type::integer:
        return std::to_string(key.as_int());
      case Type::big_integer:
        return key.big().text();
      case Type::real:
        return number(key.as_real());
      default:
        raise("keys must be str, int, float, bool or None, not {}", key.type_name());
    }
  }

  void write_dict(const Dict& dict, int level) {
    if (dict.entries.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    entries.reserve(dict.entries.size());
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    out_ += '{';
    bool first = true;
    for (const auto* entry : entries) {
      if (!first) out_ += style_.item_separator;
      first = false;
      new_line(level + 1);
      write_string(key_text(entry->first));
      out_ += style_.key_separator;
      write(entry->second, level + 1);
    }
    new_line(level);
    out_ += '}';
  }

  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

std::string dump_json(const Value& value, const JsonStyle& style) {
  Dumper dumper(style);
  dumper.write(value, 0);
  return dumper.take();
}

}  // namespace serval::jinja
