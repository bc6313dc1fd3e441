// Filters on HTML: striptags, urlize.
#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/registry.h"
#include "text/jinja/unicode.h"

namespace serval::jinja {
namespace {

bool is_word(char32_t c) {
  return c == '_' || is_alphanumeric(c);
}
bool is_digit_char(char c) {
  return c >= '0' && c <= '9';
}

// What a numeric reference stands for, with HTML's replacements for the codes of Windows-1252.
std::string numbered_character(std::string_view digits, int base) {
  static constexpr std::array<char32_t, 32> kWindows = {
      0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
      0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
      0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};
  uint64_t code = 0x110000;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
  if (result.ec != std::errc()) code = 0x110000;
  std::string out;
  if (code >= 0x80 && code < 0xA0) {
    append_code_point(out, kWindows[code - 0x80]);
  } else if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
    out = "\xEF\xBF\xBD";
  } else {
    // Controls and what is no character are left out.
    const bool control = (code < 0x20 && code != 9 && code != 10 && code != 12 && code != 13) || code == 0x7F;
    const bool no_character = (code >= 0xFDD0 && code <= 0xFDEF) || (code & 0xFFFE) == 0xFFFE;
    if (!control && !no_character) append_code_point(out, static_cast<char32_t>(code));
  }
  return out;
}

// The text that the reference at `at` (an '&') stands for; moves past it, or past '&' alone.
std::string character_reference(std::string_view text, size_t& at) {
  const size_t begin = at++;
  if (at < text.size() && text[at] == '#') {
    const bool hex = at + 1 < text.size() && (text[at + 1] == 'x' || text[at + 1] == 'X');
    const size_t first = at + (hex ? 2 : 1);
    size_t end = first;
    while (end < text.size() &&
           (hex ? std::isxdigit(static_cast<unsigned char>(text[end])) != 0 : is_digit_char(text[end])))
      end++;
    if (end == first) return "&";
    at = end + (end < text.size() && text[end] == ';' ? 1 : 0);
    return numbered_character(text.substr(first, end - first), hex ? 16 : 10);
  }
  size_t end = at;
  while (end < text.size() && end - at < 32 &&
         std::string_view("\t\n\f <&#;").find(text[end]) == std::string_view::npos)
    end++;
  const bool closed = end < text.size() && text[end] == ';';
  const std::string_view name = text.substr(at, end - at + (closed ? 1 : 0));
  if (name.empty()) return "&";
  // Some names need no semicolon; then the longest one counts.
  for (size_t size = name.size(); size > 1; size--)
    if (const char* found = html_entity(name.substr(0, size)); found != nullptr) {
      at = begin + 1 + size;
      return found;
    }
  return "&";
}

std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '&')
      out += character_reference(text, i);
    else
      out += text[i++];
  }
  return out;
}

Value striptags(Interpreter&, const Value& input, const Arguments& arguments) {
  bind("striptags", arguments, {}, 0);
  const std::string text = to_text(input);
  spend(static_cast<int64_t>(text.size()) / 8);
  std::string kept;
  size_t position = 0;
  for (size_t start = 0; (start = text.find('<', position)) != std::string::npos;) {
    const bool comment = text.compare(start, 4, "<!--") == 0;
    const size_t end = comment ? text.find("-->", start + 4) : text.find('>', start);
    if (end == std::string::npos) break;
    kept += text.substr(position, start - position);
    position = end + (comment ? 3 : 1);
  }
  kept += text.substr(position);
  std::string joined;
  for (const std::string_view word : split_blanks(kept, -1, false)) {
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return Value(unescape(joined));
}

// ---- urlize ----

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool starts_with_nocase(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), text.begin(), [](char a, char b) { return a == lower(b); });
}

// All characters are letters, digits or '_', or one of `more`; their number is between the two.
bool is_label(std::string_view label, std::string_view more, size_t least, size_t most) {
  size_t count = 0;
  for (size_t i = 0; i < label.size(); count++) {
    const char32_t c = next_code_point(label, i);
    if (!is_word(c) && (c >= 0x80 || more.find(static_cast<char>(c)) == std::string_view::npos)) return false;
  }
  return count >= least && count <= most;
}

std::vector<std::string_view> labels_of(std::string_view host) {
  std::vector<std::string_view> labels;
  while (true) {
    const size_t dot = std::min(host.find('.'), host.size());
    labels.push_back(host.substr(0, dot));
    if (dot == host.size()) return labels;
    host = host.substr(dot + 1);
  }
}

bool is_top_level(std::string_view label) {
  if (starts_with_nocase(label, "xn--") && is_label(label.substr(4), "%", 2, 59)) return true;
  return label.size() >= 2 && label.size() <= 63 &&
         std::all_of(label.begin(), label.end(), [](char c) { return lower(c) >= 'a' && lower(c) <= 'z'; });
}

bool is_common_top_level(std::string_view label) {
  for (const std::string_view known : {"com", "net", "int", "edu", "gov", "org", "info", "mil"})
    if (label.size() == known.size() && starts_with_nocase(label, known)) return true;
  return false;
}

// An optional port, then an optional path, to the end.
bool is_rest_of_url(std::string_view rest) {
  if (!rest.empty() && rest[0] == ':') {
    size_t digits = 1;
    while (digits < rest.size() && is_digit_char(rest[digits])) digits++;
    if (digits < 2 || digits > 6) return false;
    rest = rest.substr(digits);
  }
  return rest.empty() || rest[0] == '/' || rest[0] == '?' || rest[0] == '#';
}

bool is_ip_host(std::string_view text, size_t& end) {
  if (text.starts_with("[")) {
    end = text.find(']');
    if (end == std::string_view::npos) return false;
    const std::string_view inside = text.substr(1, end++ - 1);
    size_t i = 0, groups = 0;
    while (i < inside.size()) {
      size_t digits = 0;
      while (i < inside.size() && digits < 4 && std::isxdigit(static_cast<unsigned char>(inside[i])) != 0) {
        i++;
        digits++;
      }
      const bool colon = i < inside.size() && inside[i] == ':';
      if (groups < 2 && !colon) return false;
      if (!colon && digits == 0) return false;
      i += colon ? 1 : 0;
      groups++;
    }
    return groups >= 2 && groups <= 8;
  }
  end = std::min(text.find_first_of(":/?#"), text.size());
  const std::vector<std::string_view> parts = labels_of(text.substr(0, end));
  return parts.size() == 4 && std::all_of(parts.begin(), parts.end(), [](std::string_view p) {
           return !p.empty() && p.size() <= 3 && std::all_of(p.begin(), p.end(), is_digit_char);
         });
}

bool is_url(std::string_view text) {
  std::string_view host_on = text;
  bool has_scheme = false, has_prefix = false;
  for (const std::string_view scheme : {"http://", "https://"})
    if (starts_with_nocase(text, scheme)) {
      host_on = text.substr(scheme.size());
      has_scheme = has_prefix = true;
    }
  if (has_scheme) {
    size_t end = 0;
    if (is_ip_host(host_on, end) && is_rest_of_url(host_on.substr(end))) return true;
  }
  const auto is_domain = [](std::string_view rest, bool common) {
    const size_t end = std::min(rest.find_first_of(":/?#"), rest.size());
    const std::vector<std::string_view> labels = labels_of(rest.substr(0, end));
    if (!is_rest_of_url(rest.substr(end))) return false;
    if (common && labels.size() < 2) return false;
    for (size_t i = 0; i + 1 < labels.size(); i++)
      if (!is_label(labels[i], "%-", common ? 2 : 1, common ? 63 : labels[i].size())) return false;
    return common ? is_common_top_level(labels.back()) : is_top_level(labels.back());
  };
  if (has_prefix && is_domain(host_on, false)) return true;
  if (starts_with_nocase(text, "www.") && is_domain(text.substr(4), false)) return true;
  return is_domain(text, true);
}

// What follows the '@' of an address holds no other.
bool is_email(std::string_view text) {
  const size_t at = text.rfind('@');
  if (at == std::string_view::npos || at == 0) return false;
  const std::string_view host = text.substr(at + 1);
  const size_t dot = host.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return false;
  size_t first = 0;
  return is_word(next_code_point(host, first)) && is_label(host.substr(0, dot), ".-", 1, host.size()) &&
         is_label(host.substr(dot + 1), "", 1, host.size());
}

struct Links {
  std::string attributes;  // rel and target
  std::optional<int64_t> most;
  std::vector<std::string> schemes;

  std::string shown(std::string_view url) const {
    if (!most.has_value() || count_code_points(url) <= *most) return std::string(url);
    const int64_t kept = *most < 0 ? std::max<int64_t>(count_code_points(url) + *most, 0) : *most;
    return std::string(url.substr(0, byte_offset(url, kept))) + "...";
  }

  std::string link(std::string_view word) const {
    if (is_url(word)) {
      const bool whole = word.starts_with("https://") || word.starts_with("http://");
      return fmt::format("<a href=\"{}{}\"{}>{}</a>", whole ? "" : "https://", word, attributes, shown(word));
    }
    if (word.starts_with("mailto:") && is_email(word.substr(7)))
      return fmt::format("<a href=\"{}\">{}</a>", word, word.substr(7));
    if (word.find('@') != std::string_view::npos && !word.starts_with("www.") && !word.starts_with("@") &&
        word.find(':') == std::string_view::npos && is_email(word))
      return fmt::format("<a href=\"mailto:{}\">{}</a>", word, word);
    for (const std::string& scheme : schemes)
      if (word != scheme && word.starts_with(scheme))
        return fmt::format("<a href=\"{}\"{}>{}</a>", word, attributes, word);
    return std::string(word);
  }

  // Brackets and punctuation around a word are not part of its link.
  std::string word(std::string_view text) const {
    const auto starts = [](std::string_view t) -> size_t {
      return t.starts_with("(") || t.starts_with("<") ? 1 : t.starts_with("&lt;") ? 4 : 0;
    };
    const auto ends = [](std::string_view t) -> size_t {
      if (t.ends_with("&gt;")) return 4;
      return !t.empty() && std::string_view(")>.,\n").find(t.back()) != std::string_view::npos ? 1 : 0;
    };
    size_t begin = 0, end = text.size();
    while (const size_t n = starts(text.substr(begin))) begin += n;
    while (const size_t n = ends(text.substr(begin, end - begin))) end -= n;
    std::string head(text.substr(0, begin)), middle(text.substr(begin, end - begin)), tail(text.substr(end));
    static constexpr std::array<std::array<std::string_view, 2>, 3> kPairs = {
        {{"(", ")"}, {"<", ">"}, {"&lt;", "&gt;"}}};
    const auto count = [](std::string_view in, std::string_view what) {
      int64_t n = 0;
      for (size_t at = 0; (at = in.find(what, at)) != std::string_view::npos; at += what.size()) n++;
      return n;
    };
    for (const auto& [open, close] : kPairs) {
      const int64_t opened = count(middle, open);
      if (opened <= count(middle, close)) continue;
      for (int64_t n = std::min(opened, count(tail, close)); n > 0; n--) {
        const size_t cut = tail.find(close) + close.size();
        middle += tail.substr(0, cut);
        tail.erase(0, cut);
      }
    }
    return head + link(middle) + tail;
  }
};

Value urlize(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound b =
      bind("urlize", arguments, {"trim_url_limit", "nofollow", "target", "rel", "extra_schemes"}, 0);
  if (input.is_string()) spend(static_cast<int64_t>(input.text().size()) / 4);
  Links links;
  if (b.has(0) && !b.value(0).is_none()) links.most = b.integer(0, 0);
  std::set<std::string> rel = {"noopener"};
  if (b.has(3) && b.value(3).truthy())
    for (const std::string_view part : split_blanks(require_string(b.value(3), "rel"), -1, false))
      rel.emplace(part);
  if (b.boolean(1, false)) rel.insert("nofollow");
  std::string joined;
  for (const std::string& part : rel) joined += (joined.empty() ? "" : " ") + part;
  links.attributes = " rel=\"" + escape_html(joined) + "\"";
  if (b.has(2) && b.value(2).truthy()) links.attributes += " target=\"" + to_text(escaped(b.value(2))) + "\"";
  if (b.has(4) && !b.value(4).is_none())
    for (const Value& scheme : items_of(b.value(4))) {
      const std::string name = require_string(scheme, "a scheme");
      const size_t colon = name.find(':');
      const bool valid =
          colon != std::string::npos && is_label(std::string_view(name).substr(0, colon), ".+-", 2, colon) &&
          name.size() - colon <= 3 && name.find_first_not_of('/', colon + 1) == std::string::npos;
      if (!valid) raise("{} is not a valid URI scheme prefix.", repr(scheme));
      links.schemes.push_back(name);
    }
  const std::string text = to_text(escaped(input));
  spend_bytes(8 * static_cast<int64_t>(text.size()));
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    size_t next = i;
    const bool blank = is_space(next_code_point(text, next));
    while (i < text.size()) {
      next = i;
      if (is_space(next_code_point(text, next)) != blank) break;
      i = next;
    }
    const std::string_view part = std::string_view(text).substr(begin, i - begin);
    out += blank ? std::string(part) : links.word(part);
    check_text_size(static_cast<int64_t>(out.size()));
  }
  return interpreter.autoescape() ? Value::markup(std::move(out)) : Value(std::move(out));
}

constexpr std::array kHtmlFilters = std::to_array<FilterEntry>({
    {"striptags", striptags},
    {"urlize", urlize},
});

}  // namespace

std::span<const FilterEntry> html_filters() {
  return kHtmlFilters;
}

}  // namespace serval::jinja
