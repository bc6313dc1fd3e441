// A GGUF is recognised by its first four bytes and refused; nothing else of such a file is looked at.
//
//   if (is_gguf(path)) refuse_gguf(path);
#pragma once
#include <string>

namespace serval {

bool is_gguf(const std::string& path);  // false too where the file cannot be opened
[[noreturn]] void refuse_gguf(const std::string& path);

}  // namespace serval
