// Products of rows with a small weight, shared out by rows: one parallel region for a run of products instead
// of one for each.
//
//   for_row_parts(weight, rows, [&](int64_t begin, int64_t end) {
//     multiply(x.row_range(begin, end - begin), w.t(), y.row_range(begin, end - begin));
//   });
#pragma once
#include "base/parallel.h"
#include "tensor/operand.h"

namespace serval {

// Where the weight stays in a core's cache and every thread gets enough rows, f is called on each thread with
// its part, and the products within run on that thread alone. Else f(0, rows): each product shares its work
// by itself.
template <class F>
void for_row_parts(const Operand& weight, int64_t rows, F f) {
  constexpr int64_t kCached = int64_t{512} << 10, kLeastRows = 32;
  const bool cached = weight.rows * weight.row_size * size_of(weight.dtype) <= kCached;
  if (!cached || rows < kLeastRows * num_threads()) return f(0, rows);
  parallel_for(0, rows, kLeastRows, f);
}

}  // namespace serval
