// Products with a small weight: one parallel region for a run of products instead of one for each, and few
// different shapes, because the library compiles code for each new one and no two batches have as many rows.
//
//   for_row_parts(is_small_weight(weight), rows, [&](int64_t begin, int64_t end) {
//     multiply(x.row_range(begin, end - begin), w.t(), y.row_range(begin, end - begin));
//   });
//   add_over_rows(small, dy, u, d_b, scale);  // d_b += scale * dy^T u
#pragma once
#include <algorithm>

#include "base/parallel.h"
#include "ops/common/products.h"

namespace serval {

// A weight that stays in a core's cache.
inline bool is_small_weight(int64_t rows, int64_t columns, DType dtype) {
  return rows * columns * size_of(dtype) <= int64_t{512} << 10;
}
inline bool is_small_weight(const Operand& weight) {
  return is_small_weight(weight.rows, weight.row_size, weight.dtype);
}

constexpr int64_t kMostBlockRows = 1024;

// Cuts [first, end) into blocks of 1024, 512, ... 16 rows: f(begin, end). A block that the last rows nearly
// fill is taken whole, with rows before them that are done already.
template <class F>
void for_row_blocks(int64_t first, int64_t end, F f) {
  constexpr int64_t kLeast = 16;
  int64_t begin = first;
  for (int64_t block = kMostBlockRows; begin < end; block /= 2) {
    for (; end - begin >= block; begin += block) f(begin, begin + block);
    const bool nearly = end - begin > block / 4 * 3 || block == kLeast;
    if (begin == end || !nearly || (end - block < first && block > kLeast)) continue;
    return f(std::max(first, end - block), end);
  }
}

// With a small weight and enough rows for every thread, each thread takes its part of the rows, and the
// products within f run on it alone. f(begin, end) may be called again for rows that it has done before. With
// a large weight f(0, rows) is called once; each product shares its work by itself.
template <class F>
void for_row_parts(bool small, int64_t rows, F f) {
  constexpr int64_t kLeastRows = 32;
  if (!small) return f(0, rows);
  const auto blocks = [&](int64_t begin, int64_t end) { for_row_blocks(begin, end, f); };
  if (rows < kLeastRows * num_threads()) return blocks(0, rows);
  parallel_for(0, rows, kLeastRows, blocks);
}

// target += scale * left^T right, a sum over the rows of both; beside a small weight in blocks of rows.
inline void add_over_rows(bool small, const Matrix& left, const Matrix& right, const Matrix& target,
                          double scale = 1) {
  const auto add = [&](int64_t begin, int64_t end) {
    multiply(left.row_range(begin, end - begin).t(), right.row_range(begin, end - begin), target, scale,
             true);
  };
  if (!small) return add(0, left.rows);
  int64_t begin = 0;
  for (int64_t block = kMostBlockRows; begin < left.rows; block /= 2)
    for (; left.rows - begin >= block; begin += block) add(begin, begin + block);
}

// Shares out columns where what belongs to them is small: f(begin, end), in one piece where it is not.
template <class F>
void for_column_parts(bool small, int64_t columns, F f) {
  constexpr int64_t kUnit = 32;
  if (!small) return f(0, columns);
  parallel_for(0, (columns + kUnit - 1) / kUnit, 1,
               [&](int64_t begin, int64_t end) { f(begin * kUnit, std::min(end * kUnit, columns)); });
}

}  // namespace serval
