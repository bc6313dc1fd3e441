// What a kernel sees of a tensor: raw memory, sizes and the row stride.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace serval {

struct Operand {
  void* data = nullptr;  // nullptr: an optional operand that is absent
  DType dtype = DType::f32;
  int64_t row_stride = 0;  // elements between rows
  // On the CPU: the rows that are valid in this run. On a GPU the host does not know them: the capacity.
  int64_t rows = 0;
  int64_t row_size = 0;            // elements of a row
  const int32_t* count = nullptr;  // on a GPU: where the valid rows stand, on the device; nullptr: all

  SERVAL_INLINE explicit operator bool() const { return data != nullptr; }
  SERVAL_INLINE int64_t columns() const { return row_size; }
  template <class T>
  SERVAL_INLINE T* as() const {
    return static_cast<T*>(data);
  }
  template <class T>
  SERVAL_INLINE T* row(int64_t index) const {
    return static_cast<T*>(data) + index * row_stride;
  }
};

extern const Operand kAbsentOperand;

}  // namespace serval
