// Weights and batches for measurements: numbers that look like the real ones and cost next to no time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "data/examples.h"
#include "nn/weights.h"

namespace serval {

// Normal numbers, drawn once and read again and again at offsets that a name decides.
class NormalBlock {
 public:
  // At most 16 Mi numbers are drawn, less where no tensor has as many.
  NormalBlock(int64_t largest_tensor, double scale);
  // Elements [first, first + count) of the tensor of a name.
  void read(const std::string& name, int64_t first, int64_t count, void* target, DType dtype) const;

 private:
  const std::vector<std::byte>& block(DType dtype) const;
  int64_t size_ = 0;
  mutable std::mutex mutex_;
  mutable std::map<DType, std::vector<std::byte>> blocks_;  // the same numbers, rounded
};

// Every parameter of a table: norms are one, biases and the B of an adapter zero, the others normal.
class RandomWeights final : public TensorSource {
 public:
  RandomWeights(const ParameterTable& table, double initializer_range);
  std::optional<Shape> shape(const std::string& name) const override;
  void read(const std::string& name, void* target, DType dtype) const override;
  bool read_part(const std::string& name, int64_t first, int64_t count, void* target,
                 DType dtype) const override;
  std::string where() const override { return "random weights"; }

 private:
  std::map<std::string, const ParameterSlice*> slices_;  // of the table, which outlives this
  NormalBlock block_;
};

// Documents of random tokens that fill `rows` rows, every token but the first a label. `packed`: lengths are
// log-normal with median 400 and sigma 1, cut at max_length; else each document has max_length tokens.
Examples random_documents(int64_t rows, int64_t max_length, bool packed, int64_t vocab_size);

}  // namespace serval
