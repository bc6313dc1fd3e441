// Files that nobody else sees and that are gone when their process ends, for data that outgrows memory.
#pragma once
#include <string>
#include <string_view>

namespace serval {

// $TMPDIR, else /tmp.
std::string temporary_directory();

// A descriptor of a new file without a name in `directory` ("": temporary_directory()), which is made where
// it is missing. UserError where that cannot be.
int open_nameless(const std::string& directory);

// All of the bytes, or a UserError that names `path`.
void write_all(int descriptor, std::string_view bytes, const std::string& path);

}  // namespace serval
