#include "text/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/tokenizer/characters.h"
#include "text/tokenizer/regex_class.h"

namespace serval {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr size_t kJitStackBytes = 1 << 20;
constexpr int kMaxClassDepth = 50;

// What PCRE2 needs for a match besides the pattern; any pattern may use it, so each thread keeps one.
struct MatchScratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);
  MatchScratch() {
    SERVAL_CHECK(data != nullptr && context != nullptr, "out of memory");
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_depth_limit(context, 100'000);
    pcre2_set_heap_limit(context, 64 << 10);  // KiB
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchScratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;
};

MatchScratch& match_scratch() {
  thread_local MatchScratch scratch;
  return scratch;
}

class Translator {
 public:
  Translator(std::string_view source, const std::string& where) : source_(source), where_(where) {}

  std::string translate() {
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (c == '[') {
        atom_ = out_.size();
        character_class();
      } else if (c == '\\') {
        atom_ = out_.size();
        escape(/*in_class=*/false);
      } else if (c == '(') {
        open_group();
      } else if (c == ')') {
        close_group();
      } else if (c == '{') {
        interval();
      } else {
        if (c != '*' && c != '+' && c != '?' && !is_continuation(c)) atom_ = out_.size();
        copy(1);
      }
    }
    out_ += open_options_;
    return std::move(out_);
  }

 private:
  struct Group {
    size_t begin;
    std::string options;  // open_options_ outside
  };

  void open_group() {
    // "(?i)" holds to the end of the group around it, alternatives included: "(?i:...)". "m" is what PCRE2
    // calls "s".
    const size_t end = source_.find_first_not_of("imx-", at_ + 2);
    if (source_.substr(at_, 2) == "(?" && end != std::string_view::npos && end > at_ + 2 &&
        (source_[end] == ':' || source_[end] == ')')) {
      std::string options(source_.substr(at_, end - at_));
      std::replace(options.begin(), options.end(), 'm', 's');
      const size_t begin = out_.size();
      out_ += options + ":";
      if (source_[end] == ')') {
        // Behind a comment of "(?x)" only a line's end closes a group.
        open_options_ += options.find('x') == std::string::npos ? ")" : "\n)";
      } else {
        groups_.push_back({begin, std::exchange(open_options_, {})});
      }
      at_ = end + 1;
      return;
    }
    groups_.push_back({out_.size(), std::exchange(open_options_, {})});
    copy(1);
    // The head of a group is no atom: "(?<name>", "(?=".
    if (at_ < source_.size() && source_[at_] == '?') copy(1);
  }

  void close_group() {
    out_ += std::exchange(open_options_, {});
    if (!groups_.empty()) {
      atom_ = groups_.back().begin;
      open_options_ = std::move(groups_.back().options);
      groups_.pop_back();
    }
    copy(1);
  }

  // \b and \B, whose words are those of \w.
  void word_boundary(bool negated) {
    at_ += 2;
    const std::string word = "[" + regex_members(RegexClass{.flag = unicode::kRegexWord}, false) + "]";
    out_ += negated ? fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word)
                    : fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word);
  }

  [[noreturn]] void refuse(const char* what) const {
    fail("{}: the regular expression '{}' uses {}, which is not supported", where_, source_, what);
  }
  void copy(size_t count) {
    out_ += source_.substr(at_, count);
    at_ += count;
  }
  void put_class(const RegexClass& members, bool negated, bool in_class) {
    if (in_class) {
      out_ += regex_members(members, negated);
    } else {
      out_ += negated ? "[^" : "[";
      out_ += regex_members(members, /*negated=*/false);
      out_ += ']';
    }
  }

  void escape(bool in_class) {
    if (at_ + 1 >= source_.size()) return copy(1);
    const char kind = source_[at_ + 1];
    const auto put_flag = [&](uint32_t flag, bool negated) {
      at_ += 2;
      put_class(RegexClass{.flag = flag}, negated, in_class);
    };
    switch (kind) {
      case 's':
      case 'S':
        return put_flag(unicode::kRegexSpace, kind == 'S');
      case 'w':
      case 'W':
        // Alone it takes six more characters of Latin-1 than inside a class.
        return put_flag(in_class ? unicode::kPosixWord : unicode::kRegexWord, kind == 'W');
      case 'd':
      case 'D':
        return put_flag(unicode::kPosixDigit, kind == 'D');
      case 'h':
      case 'H':
        return put_flag(unicode::kPosixXdigit, kind == 'H');
      case 'u':
        return code_point();
      case 'b':
      case 'B':
        if (!in_class) return word_boundary(kind == 'B');
        return copy(2);
      case 'v':
        at_ += 2;
        out_ += "\\x{B}";
        return;
      case 'p':
      case 'P':
        if (source_.substr(at_ + 2, 1) == "{" && property(in_class)) return;
        [[fallthrough]];
      default: {
        // The braces of \p{...}, \x{...} belong to the escape.
        const size_t close =
            source_.substr(at_ + 2, 1) == "{" ? source_.find('}', at_) : std::string_view::npos;
        const bool takes_braces = std::string_view("pPxogk").find(kind) != std::string_view::npos;
        return copy(takes_braces && close != std::string_view::npos ? close + 1 - at_ : 2);
      }
    }
  }

  // \p{Name}, \p{^Name} or \P{Name}; false for a name that only PCRE2 may know.
  bool property(bool in_class) {
    const size_t close = source_.find('}', at_);
    if (close == std::string_view::npos) return false;
    std::string_view name = source_.substr(at_ + 3, close - at_ - 3);
    bool negated = source_[at_ + 1] == 'P';
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    const std::optional<RegexClass> members = regex_property(name);
    if (!members) return false;
    at_ = close + 1;
    put_class(*members, negated, in_class);
    return true;
  }

  // \u{1F600} or \u1F60.
  void code_point() {
    at_ += 2;
    std::string digits;
    if (at_ < source_.size() && source_[at_] == '{') {
      const size_t close = source_.find('}', at_);
      if (close == std::string_view::npos) refuse("an unfinished \\u{...}");
      digits = source_.substr(at_ + 1, close - at_ - 1);
      at_ = close + 1;
    } else {
      digits = source_.substr(at_, 4);
      at_ = std::min(source_.size(), at_ + 4);
    }
    out_ += "\\x{" + digits + "}";
  }

  // A bracket expression: the characters that every segment (between "&&") has. A segment is a union.
  struct Bracket {
    struct Segment {
      std::string members;                  // of a plain bracket expression of PCRE2
      std::vector<std::string> characters;  // expressions that match one character each
    };
    bool negated = false;
    std::vector<Segment> segments{1};
    bool is_plain() const { return segments.size() == 1 && segments[0].characters.empty(); }
  };

  void character_class() { out_ += expression_of(bracket()); }

  Bracket bracket() {
    if (++depth_ > kMaxClassDepth) refuse("too many classes inside each other");
    Bracket result;
    std::string outer = std::exchange(out_, {});  // members are written to out_
    ++at_;
    if (at_ < source_.size() && source_[at_] == '^') {
      result.negated = true;
      ++at_;
    }
    if (at_ < source_.size() && source_[at_] == ']') {
      out_ += "\\]";
      ++at_;
    }
    while (true) {
      if (at_ >= source_.size()) refuse("an unfinished class");
      const char c = source_[at_];
      if (c == '\\') {
        escape(/*in_class=*/true);
      } else if (source_.substr(at_, 2) == "[:" && source_.find(":]", at_) != std::string_view::npos) {
        posix_class();
      } else if (c == '[') {
        const Bracket inner = bracket();
        if (inner.is_plain() && !inner.negated) {
          out_ += inner.segments[0].members;
        } else {
          result.segments.back().characters.push_back(expression_of(inner));
        }
      } else if (c == ']') {
        ++at_;
        break;
      } else if (source_.substr(at_, 2) == "&&") {
        result.segments.back().members = std::exchange(out_, {});
        result.segments.emplace_back();
        at_ += 2;
      } else {
        copy(1);
      }
    }
    result.segments.back().members = std::exchange(out_, std::move(outer));
    --depth_;
    return result;
  }

  void posix_class() {
    const size_t close = source_.find(":]", at_);
    std::string_view name = source_.substr(at_ + 2, close - at_ - 2);
    const bool negated = !name.empty() && name[0] == '^';
    if (negated) name.remove_prefix(1);
    const std::optional<RegexClass> members = regex_property(name);
    if (!members || members->flag == 0) refuse("an unknown [:class:]");
    put_class(*members, negated, /*in_class=*/true);
    at_ = close + 2;
  }

  // PCRE2 knows neither "&&" nor a negated class inside a class. Atomic groups, because each holds one
  // character: trying another alternative for it would find nothing new.
  static std::string expression_of(const Bracket& bracket) {
    if (bracket.is_plain()) {
      const std::string& members = bracket.segments[0].members;
      if (members.empty()) return bracket.negated ? "(?s:.)" : "(?!)";
      return (bracket.negated ? "[^" : "[") + members + "]";
    }
    std::string all;
    for (size_t i = bracket.segments.size(); i-- > 0;) {
      const Bracket::Segment& segment = bracket.segments[i];
      std::string any = segment.members.empty() ? std::string() : "[" + segment.members + "]";
      for (const std::string& character : segment.characters) any += (any.empty() ? "" : "|") + character;
      if (any.empty()) any = "(?!)";
      all += (i > 0 ? "(?=" : "(?>") + any + ")";
    }
    return bracket.negated ? "(?>(?!" + all + ")(?s:.))" : "(?>" + all + ")";
  }

  // "x{1,3}+" repeats the interval in Oniguruma; PCRE2 would read a possessive quantifier.
  void interval() {
    const size_t close = source_.find('}', at_);
    const bool is_interval =
        close != std::string_view::npos &&
        source_.substr(at_ + 1, close - at_ - 1).find_first_not_of("0123456789,") == std::string_view::npos;
    if (!is_interval) {
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return;
    }
    copy(close + 1 - at_);
    if (at_ < source_.size() && source_[at_] == '+') {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
  }

  std::string_view source_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;  // where the last thing that a quantifier could apply to starts in out_
  std::vector<Group> groups_;
  std::string open_options_;  // closes what stands for "(?i)" in the innermost group
  int depth_ = 0;
};

}  // namespace

std::string translate_oniguruma(std::string_view expression, const std::string& where) {
  return Translator(expression, where).translate();
}

struct Pattern::Code {
  pcre2_code* code = nullptr;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

Pattern::Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Pattern Pattern::regex(std::string_view expression, const std::string& where, bool known) {
  if (const WordEnd word_end = known ? known_word_pattern(expression) : nullptr) {
    Pattern pattern;
    pattern.word_end_ = word_end;
    return pattern;
  }
  if (expression.size() > kMaxPatternBytes)
    fail("{}: a regular expression of {} bytes is too long", where, expression.size());
  const std::string translated = translate_oniguruma(expression, where);
  auto code = std::make_unique<Code>();
  int error = 0;
  size_t offset = 0;
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  SERVAL_CHECK(context != nullptr, "out of memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 100);
  // Oniguruma's ^ and $ match at every line. Callouts and \C could not be bounded or would split characters.
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                             &offset, context.get());
  if (code->code == nullptr) {
    char message[256] = "";
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    fail("{}: the regular expression '{}' cannot be read: {}", where, expression, message);
  }
  // Without a just-in-time compiler the same matches are found more slowly.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  Pattern pattern;
  pattern.code_ = std::move(code);
  pattern.where_ = where;
  return pattern;
}

Pattern Pattern::from_json(const Json& value, const std::string& where) {
  if (const Json* text = value.find("String"); text != nullptr && !text->as_string().empty())
    return literal(text->as_string());
  if (const Json* expression = value.find("Regex")) return regex(expression->as_string(), where);
  if (value.contains("String")) return regex("", where);  // the empty string matches between all characters
  fail("{}: a pattern must be {{\"String\": ...}} or {{\"Regex\": ...}}, found {}", where, value.dump());
}

template <class OnMatch>
void Pattern::for_each_match(std::string_view text, const OnMatch& on_match) const {
  if (text.empty()) return;  // not even an empty match, as in the reference
  if (word_end_ != nullptr) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = word_end_(text, begin);
      on_match(begin, end);
      begin = end;
    }
    return;
  }
  if (code_ == nullptr) {
    for (size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size()))
      on_match(at, at + literal_.size());
    return;
  }
  MatchScratch& scratch = match_scratch();
  const size_t* ends = pcre2_get_ovector_pointer(scratch.data);
  size_t start = 0, last_end = std::string_view::npos;
  while (start <= text.size()) {
    const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                                  PCRE2_NO_UTF_CHECK, scratch.data, scratch.context);
    if (found == PCRE2_ERROR_NOMATCH) return;
    if (found < 0) {
      char message[256] = "";
      pcre2_get_error_message(found, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
      fail("{}: matching a regular expression against a text of {} bytes failed: {}", where_, text.size(),
           message);
    }
    const size_t begin = ends[0], end = ends[1];
    // \K can move the start of a match; what would overlap an earlier match is none.
    const bool usable = begin <= end && (last_end == std::string_view::npos || begin >= last_end);
    if (usable && (begin < end || begin != last_end)) {
      on_match(begin, end);
      last_end = end;
      if (end > start || begin < end) {
        start = end;
        continue;
      }
    }
    // An empty match: go on behind the next character, never at the same place.
    start = std::max(start, end);
    if (start >= text.size()) return;
    next_character(text, start);
  }
}

void Pattern::find(std::string_view text, std::vector<Stretch>& stretches) const {
  stretches.clear();
  size_t at = 0;
  for_each_match(text, [&](size_t begin, size_t end) {
    if (begin > at) stretches.push_back({at, begin, false});
    stretches.push_back({begin, end, true});
    at = end;
  });
  if (at < text.size()) stretches.push_back({at, text.size(), false});
}

}  // namespace serval
