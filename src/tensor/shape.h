// Shapes of at most four dimensions. A tensor's rows (its first dimension) may lie `row_stride` elements
// apart; what is inside a row is contiguous. So a [tokens, heads * head_dim] segment of a wider matrix is a
// tensor like any other.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/error.h"

namespace serval {

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    SERVAL_CHECK(dims.size() <= dims_.size());
    for (const int64_t dim : dims) dims_[static_cast<size_t>(rank_++)] = dim;
  }
  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  int64_t rows() const { return rank_ == 0 ? 1 : dims_[0]; }
  int64_t row_size() const {  // elements of one row
    int64_t size = 1;
    for (int axis = 1; axis < rank_; ++axis) size *= (*this)[axis];
    return size;
  }
  int64_t elements() const { return rows() * row_size(); }
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<int64_t, 4> dims_{};
  int rank_ = 0;
};

std::string to_string(const Shape& shape);  // "[1024, 4096]"

}  // namespace serval
