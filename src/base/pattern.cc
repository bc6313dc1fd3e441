#include "base/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "base/text.h"

namespace serval {

struct Regex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

Regex::Regex(std::string_view expression, const std::string& where) : where_(where) {
  int error = 0;
  PCRE2_SIZE at = 0;
  auto code = std::make_unique<Code>();
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                             PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  if (code->code == nullptr) {
    char message[256];
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    fail("{}: the regular expression {} is wrong at character {}: {}", where, in_quotes(expression), at + 1,
         message);
  }
  code->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code->context, 1000000);
  pcre2_set_depth_limit(code->context, 10000);
  pcre2_set_heap_limit(code->context, 20000);
  code_ = std::move(code);
}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

bool Regex::match(std::string_view text, uint32_t options, Group* group) const {
  pcre2_match_data* data = pcre2_match_data_create_from_pattern(code_->code, nullptr);
  const int result = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                 options, data, code_->context);
  if (result > 0 && group != nullptr) {
    const int number =
        pcre2_substring_number_from_name(code_->code, reinterpret_cast<PCRE2_SPTR>(group->name));
    SERVAL_CHECK(number > 0, "no group '{}'", group->name);
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data) + 2 * static_cast<ptrdiff_t>(number);
    if (number < result && ends[0] != PCRE2_UNSET) group->text = text.substr(ends[0], ends[1] - ends[0]);
  }
  pcre2_match_data_free(data);
  if (result >= 0) return true;
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result == PCRE2_ERROR_MATCHLIMIT || result == PCRE2_ERROR_DEPTHLIMIT || result == PCRE2_ERROR_HEAPLIMIT)
    fail("{}: the regular expression needs too many steps on {}; simplify it", where_, in_quotes(text));
  fail("{}: the regular expression cannot be tried on {} (error {})", where_, in_quotes(text), result);
}

bool Regex::matches_whole(std::string_view text) const {
  return match(text, PCRE2_ANCHORED | PCRE2_ENDANCHORED);
}
bool Regex::matches_start(std::string_view text) const {
  return match(text, PCRE2_ANCHORED);
}
std::optional<std::string> Regex::named_group(std::string_view text, const char* name) const {
  Group group{name, {}};
  if (!match(text, PCRE2_ANCHORED, &group)) return std::nullopt;
  return group.text;
}

}  // namespace serval
