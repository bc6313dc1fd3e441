// Regular expressions that users and files give (PCRE2, Unicode), with bounded matching.
//
//   Regex regex("model\\.layers\\.\\d+\\..*", "lora_target_modules");
//   regex.matches_whole(name);    // Python's re.fullmatch
//   regex.matches_start(name);    // Python's re.match
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace serval {

class Regex {
 public:
  // A wrong expression is a UserError that names `where`.
  Regex(std::string_view expression, const std::string& where);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();
  bool matches_whole(std::string_view text) const;
  bool matches_start(std::string_view text) const;
  // What the group (?<name>...) holds where the expression matches the start.
  std::optional<std::string> named_group(std::string_view text, const char* name) const;

 private:
  struct Group {
    const char* name;
    std::string text;
  };
  bool match(std::string_view text, uint32_t options, Group* group = nullptr) const;
  struct Code;
  std::unique_ptr<const Code> code_;
  std::string where_;
};

}  // namespace serval
