// Base64 (RFC 4648, the standard alphabet).
//
//   std::string bytes;
//   if (!decode_base64("aGk=", bytes)) ...;   // "hi"
//   encode_base64("hi");                      // "aGk="
#pragma once
#include <string>
#include <string_view>

namespace serval {

// `out` is replaced. False for a character or a padding that the standard does not have; white space is none
// of its characters. Padding may be left out.
bool decode_base64(std::string_view text, std::string& out);

std::string encode_base64(std::string_view bytes);

}  // namespace serval
