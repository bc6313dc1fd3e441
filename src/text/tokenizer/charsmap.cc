#include "text/tokenizer/charsmap.h"

#include <cstring>

#include "base/error.h"
#include "text/tokenizer/characters.h"

namespace serval {
namespace {

// A unit of the double array: bits 0-7 the byte that leads here (bit 31 set in a value), bit 8 whether a key
// ends here, bit 9 whether the offset counts in 256s, bits 10-30 the offset to the children.
uint32_t label(uint32_t unit) {
  return unit & 0x800000FFu;
}
bool ends_key(uint32_t unit) {
  return (unit >> 8) & 1u;
}
uint32_t offset(uint32_t unit) {
  return (unit >> 10) << ((unit & 0x200u) >> 6);
}
uint32_t value(uint32_t unit) {
  return unit & 0x7FFFFFFFu;
}

}  // namespace

Charsmap Charsmap::from_bytes(std::string_view bytes, const std::string& where) {
  Charsmap map;
  if (bytes.empty()) return map;
  uint32_t size = 0;
  if (bytes.size() >= sizeof size) std::memcpy(&size, bytes.data(), sizeof size);
  if (bytes.size() < sizeof size || size > bytes.size() - sizeof size || size % 4 != 0 || size == 0)
    fail("{}: a precompiled charsmap of {} bytes claims {} bytes of trie", where, bytes.size(), size);
  map.units_.resize(size / 4);
  std::memcpy(map.units_.data(), bytes.data() + sizeof size, size);
  map.strings_ = bytes.substr(sizeof size + size);
  if (valid_utf8_prefix(map.strings_).ill_formed != 0)
    fail("{}: the replacements of a precompiled charsmap are not UTF-8", where);
  return map;
}

template <class Visit>
void Charsmap::for_each_rule(std::string_view text, const Visit& visit) const {
  if (units_.empty()) return;
  size_t node = offset(units_[0]);
  for (size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label(units_[node]) != byte) return;
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!ends_key(unit)) continue;
    if (node >= units_.size() || !visit(at + 1, value(units_[node]))) return;
  }
}

std::string_view Charsmap::replacement(uint32_t at) const {
  // A place inside a character would make text that is not UTF-8.
  if (at >= strings_.size() || is_continuation(strings_[at])) return {};
  return std::string_view(strings_.c_str() + at);
}

std::optional<std::string_view> Charsmap::longest(std::string_view text, size_t& size) const {
  std::optional<uint32_t> found;
  for_each_rule(text, [&](size_t matched, uint32_t at) {
    size = matched;
    found = at;
    return true;
  });
  return found ? std::optional(replacement(*found)) : std::nullopt;
}

std::optional<std::string_view> Charsmap::shortest(std::string_view text) const {
  std::optional<uint32_t> found;
  for_each_rule(text, [&](size_t, uint32_t at) {
    found = at;
    return false;
  });
  return found ? std::optional(replacement(*found)) : std::nullopt;
}

}  // namespace serval
