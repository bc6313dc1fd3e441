#include "text/tokenizer/characters.h"

#include <array>
#include <cstring>

namespace serval {
namespace {

struct ByteAlphabet {
  std::array<char32_t, 256> character;
  std::array<std::string, 256> utf8;
  std::array<int, 512> byte;
  ByteAlphabet() {
    byte.fill(-1);
    char32_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      character[b] = printable ? b : next++;
      append_utf8(utf8[b], character[b]);
      byte[character[b]] = static_cast<int>(b);
    }
  }
};

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

// Bytes of the character that starts with `lead`, and the bounds of its second byte; 0 for no lead byte.
struct LeadByte {
  int length;
  unsigned char low, high;
};
LeadByte lead_byte(unsigned char lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead >= 0xE1 && lead <= 0xEF) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead >= 0xF1 && lead <= 0xF3) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

char32_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && is_continuation(text[at])) --at;
  return next_character(text, at);
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

Utf8Prefix valid_utf8_prefix(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  size_t at = 0;
  while (at < text.size()) {
    if (byte(at) < 0x80) {
      // Eight bytes at a time where they are ASCII.
      for (uint64_t word = 0; at + sizeof word <= text.size(); at += sizeof word) {
        std::memcpy(&word, text.data() + at, sizeof word);
        if ((word & 0x8080808080808080u) != 0) break;
      }
      while (at < text.size() && byte(at) < 0x80) ++at;
      continue;
    }
    const LeadByte lead = lead_byte(byte(at));
    if (lead.length == 0) return {at, 1};
    int length = 1;
    while (length < lead.length && at + length < text.size()) {
      const unsigned char b = byte(at + length);
      const bool fits = length == 1 ? b >= lead.low && b <= lead.high : b >= 0x80 && b <= 0xBF;
      if (!fits) break;
      ++length;
    }
    if (length < lead.length) return {at, static_cast<size_t>(length)};
    at += length;
  }
  return {at, 0};
}

std::string to_valid_utf8(std::string_view bytes) {
  std::string out;
  while (true) {
    const Utf8Prefix prefix = valid_utf8_prefix(bytes);
    out += bytes.substr(0, prefix.valid);
    if (prefix.ill_formed == 0) return out;
    out += "\xEF\xBF\xBD";
    bytes.remove_prefix(prefix.valid + prefix.ill_formed);
  }
}

ValidUtf8::ValidUtf8(std::string_view input) : text_(input) {
  Utf8Prefix prefix = valid_utf8_prefix(input);
  if (prefix.ill_formed == 0) return;
  int64_t at = 0;
  while (true) {
    for (size_t i = 0; i < prefix.valid; ++i) offsets_.push_back(at + static_cast<int64_t>(i));
    repaired_ += input.substr(0, prefix.valid);
    at += static_cast<int64_t>(prefix.valid);
    if (prefix.ill_formed == 0) break;
    repaired_ += "\xEF\xBF\xBD";
    offsets_.insert(offsets_.end(), 3, at);
    at += static_cast<int64_t>(prefix.ill_formed);
    input.remove_prefix(prefix.valid + prefix.ill_formed);
    prefix = valid_utf8_prefix(input);
  }
  offsets_.push_back(at);
  text_ = repaired_;
}

int64_t ValidUtf8::input_offset(int64_t offset) const {
  return offsets_.empty() ? offset : offsets_[static_cast<size_t>(offset)];
}

std::string_view byte_character(unsigned char byte) {
  return byte_alphabet().utf8[byte];
}

int byte_of_character(char32_t c) {
  return c < 512 ? byte_alphabet().byte[c] : -1;
}

}  // namespace serval
