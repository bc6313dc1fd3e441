// Which stream each call of a program is given to. All calls run in the order of the list on the main stream,
// but the work of a `start` runs on a side stream, beside what follows until its `wait`. Pairs that overlap
// get side streams of their own.
//
//   const std::vector<int> side = assign_streams(program);
//   side[c];       // -1: the main stream; else the side stream of this start, or of this wait's start
#pragma once
#include <vector>

#include "program/program.h"

namespace serval {

// By call. Each start must have one wait, behind it.
std::vector<int> assign_streams(const Program& program);

}  // namespace serval
