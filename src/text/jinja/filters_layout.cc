// Filters that break text into lines: wordwrap as Python's textwrap does it, pprint as its pprint.
#include <algorithm>
#include <array>

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/registry.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

using Characters = std::u32string;

Characters characters_of(std::string_view text) {
  Characters out;
  for (size_t i = 0; i < text.size();) out += next_code_point(text, i);
  return out;
}

std::string text_of(const Characters& characters) {
  std::string out;
  for (const char32_t c : characters) append_code_point(out, c);
  return out;
}

bool is_blank(char32_t c) {
  return (c >= 9 && c <= 13) || c == ' ';
}
bool is_word(char32_t c) {
  return c == '_' || is_alphanumeric(c);
}
bool is_letter(char32_t c) {
  return is_word(c) && !is_decimal(c);
}
bool ends_word(char32_t c) {
  return is_word(c) || std::u32string_view(U"!\"'&.,?").find(c) != std::u32string_view::npos;
}

// Cuts a line into blanks and words, a word after its hyphens where these join letters.
class Chunks {
 public:
  Chunks(const Characters& text, bool at_hyphens) : text_(text), at_hyphens_(at_hyphens) {}

  std::vector<Characters> run() {
    std::vector<Characters> chunks;
    for (size_t begin = 0; begin < text_.size();) {
      const size_t end = end_of(begin);
      chunks.push_back(text_.substr(begin, end - begin));
      spend();
      begin = end;
    }
    return chunks;
  }

 private:
  char32_t at(size_t i) const { return i < text_.size() ? text_[i] : 0; }
  // Where the dashes at `i` end if there are two or more and a word follows, else `i`.
  size_t dashes(size_t i) const {
    size_t end = i;
    while (at(end) == '-') end++;
    return end - i >= 2 && end < text_.size() && is_word(text_[end]) ? end : i;
  }

  size_t end_of(size_t begin) const {
    size_t end = begin;
    while (end < text_.size() && is_blank(text_[end])) end++;
    if (end > begin) return end;
    if (!at_hyphens_) {
      while (end < text_.size() && !is_blank(text_[end])) end++;
      return end;
    }
    if (begin > 0 && ends_word(text_[begin - 1]) && dashes(begin) > begin) return dashes(begin);
    for (end = begin + 1; end < text_.size() && !is_blank(text_[end]); end++) {
      if (splits_at_hyphen(end)) return end + 1;
      if (ends_word(text_[end - 1]) && dashes(end) > end) return end;
    }
    return end;
  }

  bool splits_at_hyphen(size_t i) const {
    if (text_[i] != '-') return false;
    const bool after_two = i >= 2 && is_letter(text_[i - 1]) && is_letter(text_[i - 2]);
    const bool after_one =
        i >= 3 && is_letter(text_[i - 1]) && text_[i - 2] == '-' && is_letter(text_[i - 3]);
    if (!after_two && !after_one) return false;
    if (i + 1 >= text_.size() || !is_letter(text_[i + 1])) return false;
    const size_t next = at(i + 2) == '-' ? i + 3 : i + 2;
    return next < text_.size() && is_letter(text_[next]);
  }

  const Characters& text_;
  bool at_hyphens_;
};

struct WrapOptions {
  int64_t width = 79;
  bool break_long = true, at_hyphens = true;
};

bool all_blank(const Characters& chunk) {
  return std::all_of(chunk.begin(), chunk.end(), is_space);
}

// As much of a word that fits no line as there is room for; after a hyphen where one stands in reach.
size_t part_of_long_word(const Characters& word, int64_t room, bool at_hyphens) {
  const auto most = static_cast<size_t>(std::max<int64_t>(room, 0));
  if (!at_hyphens || word.size() <= most || most == 0) return most;
  const size_t hyphen = word.rfind(U'-', most - 1);
  const bool usable = hyphen != Characters::npos && hyphen > 0 &&
                      std::any_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(hyphen),
                                  [](char32_t c) { return c != '-'; });
  return usable ? hyphen + 1 : most;
}

std::vector<std::string> wrap(const Characters& text, const WrapOptions& options) {
  if (options.width <= 0) raise("invalid width {} (must be > 0)", options.width);
  std::vector<Characters> chunks = Chunks(text, options.at_hyphens).run();
  std::reverse(chunks.begin(), chunks.end());
  std::vector<std::string> lines;
  const auto width = static_cast<size_t>(options.width);
  while (!chunks.empty()) {
    spend(4);
    std::vector<Characters> line;
    size_t length = 0;
    if (!lines.empty() && all_blank(chunks.back())) chunks.pop_back();
    while (!chunks.empty() && length + chunks.back().size() <= width) {
      length += chunks.back().size();
      line.push_back(std::move(chunks.back()));
      chunks.pop_back();
    }
    if (!chunks.empty() && chunks.back().size() > width) {
      if (options.break_long) {
        const size_t part =
            part_of_long_word(chunks.back(), static_cast<int64_t>(width - length), options.at_hyphens);
        line.push_back(chunks.back().substr(0, part));
        chunks.back().erase(0, part);
      } else if (line.empty()) {
        line.push_back(std::move(chunks.back()));
        chunks.pop_back();
      }
    }
    if (!line.empty() && all_blank(line.back())) line.pop_back();
    if (line.empty()) continue;
    std::string joined;
    for (const Characters& chunk : line) joined += text_of(chunk);
    lines.push_back(std::move(joined));
  }
  return lines;
}

Value wordwrap(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound b =
      bind("wordwrap", arguments, {"width", "break_long_words", "wrapstring", "break_on_hyphens"}, 0);
  const std::string& text = require_string(input, "the value to wrap");
  const WrapOptions options{b.integer(0, 79), b.boolean(1, true), b.boolean(3, true)};
  const std::string separator = b.has(2) && !b.value(2).is_none() ? b.text(2, "", "wrapstring") : "\n";
  spend_bytes(8 * static_cast<int64_t>(text.size()));
  std::string out;
  bool first = true;
  for (const std::string_view paragraph : split_lines(text, false)) {
    const std::vector<std::string> lines = wrap(characters_of(paragraph), options);
    for (size_t i = 0; i < std::max<size_t>(lines.size(), 1); i++) {
      if (!first) out += separator;
      first = false;
      if (i < lines.size()) out += lines[i];
      check_text_size(static_cast<int64_t>(out.size()));
    }
  }
  return Value(std::move(out));
}

// ---- pprint ----

// Of keys that Python cannot order, the names of their types decide.
bool before(const Value& a, const Value& b) {
  try {
    return less(a, b);
  } catch (const TemplateError&) {
    return a.type_name() < b.type_name();
  }
}

class Printer {
 public:
  std::string run(const Value& value) {
    print(value, 0, 0, 0);
    return std::move(out_);
  }

 private:
  static constexpr int64_t kWidth = 80;

  static std::vector<std::pair<Value, Value>> sorted(const Dict& dict) {
    auto entries = dict.entries;
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return before(a.first, b.first); });
    return entries;
  }

  static bool is_list(const Value& v, Sequence::Kind kind) {
    return v.is_sequence() && v.sequence().kind == kind;
  }

  // repr with sorted dicts.
  // NOLINTNEXTLINE(misc-no-recursion): values are nested at most Limits::value_depth deep
  static std::string one_line(const Value& value) {
    spend();
    if (value.is_dict()) {
      std::string out = "{";
      for (const auto& [key, item] : sorted(value.dict()))
        out += (out.size() > 1 ? ", " : "") + one_line(key) + ": " + one_line(item);
      return out + "}";
    }
    const bool tuple = is_list(value, Sequence::Kind::tuple);
    if (!tuple && !is_list(value, Sequence::Kind::list)) return repr(value);
    std::string out = tuple ? "(" : "[";
    for (const Value& item : value.sequence().items) {
      if (out.size() > 1) out += ", ";
      out += one_line(item);
      check_text_size(static_cast<int64_t>(out.size()));
    }
    if (tuple && value.sequence().items.size() == 1) out += ",";
    return out + (tuple ? ")" : "]");
  }

  void new_line(int64_t indent) {
    out_ += '\n';
    out_.append(static_cast<size_t>(indent), ' ');
    check_text_size(static_cast<int64_t>(out_.size()));
  }

  // `allowance`: characters that come after the value in its line.
  // NOLINTNEXTLINE(misc-no-recursion)
  void print(const Value& value, int64_t indent, int64_t allowance, int level) {
    const std::string line = one_line(value);
    if (count_code_points(line) <= kWidth - indent - allowance) {
      out_ += line;
    } else if (value.is_dict()) {
      out_ += '{';
      const auto entries = sorted(value.dict());
      for (size_t i = 0; i < entries.size(); i++) {
        if (i > 0) {
          out_ += ',';
          new_line(indent + 1);
        }
        const std::string key = one_line(entries[i].first);
        out_ += key + ": ";
        print(entries[i].second, indent + count_code_points(key) + 3,
              i + 1 < entries.size() ? 1 : allowance + 1, level + 1);
      }
      out_ += '}';
    } else if (is_list(value, Sequence::Kind::list) || is_list(value, Sequence::Kind::tuple)) {
      const bool tuple = value.sequence().kind == Sequence::Kind::tuple;
      const auto& items = value.sequence().items;
      const std::string end = !tuple ? "]" : items.size() == 1 ? ",)" : ")";
      out_ += tuple ? '(' : '[';
      for (size_t i = 0; i < items.size(); i++) {
        if (i > 0) {
          out_ += ',';
          new_line(indent + 1);
        }
        const auto rest = allowance + static_cast<int64_t>(end.size());
        print(items[i], indent + 1, i + 1 < items.size() ? 1 : rest, level + 1);
      }
      out_ += end;
    } else if (value.is_string() && !value.is_markup() && !value.text().empty()) {
      print_text(value.text(), indent, allowance, level);
    } else {
      out_ += line;
    }
  }

  // A long text becomes several literals, cut after line breaks and blanks.
  void print_text(const std::string& text, int64_t indent, int64_t allowance, int level) {
    const bool outermost = level == 0;
    if (outermost) {
      indent++;
      allowance++;
    }
    std::vector<std::string> literals;
    const int64_t width = kWidth - indent;
    const std::vector<std::string_view> lines = split_lines(text, true);
    for (size_t i = 0; i < lines.size(); i++) {
      const bool last_line = i + 1 == lines.size();
      std::string literal = repr_text(lines[i]);
      if (count_code_points(literal) <= width - (last_line ? allowance : 0)) {
        literals.push_back(std::move(literal));
        continue;
      }
      const std::vector<std::string_view> parts = words_with_blanks(lines[i]);
      std::string current;
      for (size_t k = 0; k < parts.size(); k++) {
        const std::string candidate = current + std::string(parts[k]);
        spend(8 + static_cast<int64_t>(candidate.size()) / 16);
        const int64_t most = width - (last_line && k + 1 == parts.size() ? allowance : 0);
        if (count_code_points(repr_text(candidate)) > most) {
          if (!current.empty()) literals.push_back(repr_text(current));
          current = parts[k];
        } else {
          current = candidate;
        }
      }
      if (!current.empty()) literals.push_back(repr_text(current));
    }
    if (literals.size() == 1) {
      out_ += repr_text(lines.back());
      return;
    }
    if (outermost) out_ += '(';
    for (size_t i = 0; i < literals.size(); i++) {
      if (i > 0) new_line(indent);
      out_ += literals[i];
    }
    if (outermost) out_ += ')';
  }

  // Each word with the blanks after it.
  static std::vector<std::string_view> words_with_blanks(std::string_view line) {
    std::vector<std::string_view> parts;
    size_t begin = 0;
    bool in_blanks = false;
    for (size_t i = 0; i < line.size();) {
      const size_t at = i;
      const bool blank = is_space(next_code_point(line, i));
      if (!blank && in_blanks) {
        parts.push_back(line.substr(begin, at - begin));
        begin = at;
      }
      in_blanks = blank;
    }
    if (begin < line.size()) parts.push_back(line.substr(begin));
    return parts;
  }

  std::string out_;
};

Value pprint(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("pprint", arguments, {}, 0);
  return Value(Printer().run(input));
}

Value random(Interpreter&, const Value&, const Arguments&) {
  raise("the filter 'random' gives another value each time, which a chat template must not");
}

constexpr std::array kLayoutFilters = std::to_array<FilterEntry>({
    {"pprint", pprint},
    {"random", random},
    {"wordwrap", wordwrap},
});

}  // namespace

std::span<const FilterEntry> layout_filters() {
  return kLayoutFilters;
}

}  // namespace serval::jinja
