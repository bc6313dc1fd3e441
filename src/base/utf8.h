// Is a text UTF-8 (no overlong forms, no surrogates, nothing cut)?
#pragma once
#include <string_view>

namespace serval {

bool is_utf8(std::string_view text);

}  // namespace serval
