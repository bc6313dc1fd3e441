// The files of src/text/templates, which the build puts into the program.
#pragma once
#include <string_view>

namespace serval {

std::string_view library_file(std::string_view name);  // "chatml.jinja"; empty where there is none

}  // namespace serval
