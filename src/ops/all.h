// The table of all ops. Adding an op means a folder under src/ops and one line in all.cc.
#pragma once
#include <span>
#include <string_view>

#include "program/op.h"

namespace serval {

std::span<const Op* const> all_ops();
const Op* find_op(std::string_view name);  // nullptr where there is none

}  // namespace serval
