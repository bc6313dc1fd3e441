#include "models/embedding_rows.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"

namespace serval {
namespace {

// A row whose largest value is not above this was never trained (Unsloth's bound).
constexpr float kUntrained = 1e-16f;
constexpr int64_t kRowsAtATime = 1024;

// Elements [first, first + count) of a tensor; `whole` keeps one that the source gives whole only.
void read_elements(const TensorSource& source, const std::string& name, const Shape& shape, int64_t first,
                   int64_t count, std::vector<float>& target, std::vector<float>& whole) {
  target.resize(static_cast<size_t>(count));
  if (source.read_part(name, first, count, target.data(), DType::f32)) return;
  if (whole.empty()) {
    whole.resize(static_cast<size_t>(shape.elements()));
    source.read(name, whole.data(), DType::f32);
  }
  std::copy_n(whole.begin() + first, count, target.begin());
}

}  // namespace

GrownSource::GrownSource(const TensorSource& source, const EmbeddingRows& rows,
                         const std::vector<std::string>& matrices)
    : source_(source), rows_(rows.rows) {
  for (const std::string& name : matrices) {
    const std::optional<Shape> shape = source.shape(name);
    if (!shape || shape->rank() != 2) continue;  // the loader says that it is missing
    if ((*shape)[0] > rows_)
      fail("{}: the tensor '{}' has {} rows, more than the {} of config.json", source.where(), name,
           (*shape)[0], rows_);
    matrices_[name] = measure(name, *shape, rows);
  }
}

GrownSource::GrownSource(const TensorSource& source, const std::string& matrix,
                         std::map<int64_t, std::vector<float>> rows)
    : source_(source) {
  const std::optional<Shape> shape = source.shape(matrix);
  if (!shape || shape->rank() != 2) return;  // the loader says that it is missing
  rows_ = (*shape)[0];
  for (const auto& [row, values] : rows)
    if (row < 0 || row >= rows_ || static_cast<int64_t>(values.size()) != (*shape)[1])
      fail("{}: row {} of {} values does not fit '{}' {}", source.where(), row, values.size(), matrix,
           to_string(*shape));
  matrices_[matrix] = {.source_rows = rows_, .width = (*shape)[1], .mean = {}, .set = std::move(rows)};
}

GrownSource::Matrix GrownSource::measure(const std::string& name, const Shape& shape,
                                         const EmbeddingRows& rows) {
  Matrix m;
  m.source_rows = shape[0];
  m.width = shape[1];
  const int64_t known = std::min(rows.known, m.source_rows);
  std::vector<double> sum(static_cast<size_t>(m.width));
  std::vector<float> values, whole;
  std::vector<int64_t> untrained;
  for (int64_t begin = 0; begin < known; begin += kRowsAtATime) {
    const int64_t count = std::min(kRowsAtATime, known - begin);
    read_elements(source_, name, shape, begin * m.width, count * m.width, values, whole);
    const auto row_of = [&](int64_t row) { return values.data() + row * m.width; };
    for (int64_t row = 0; row < count; ++row)
      if (std::all_of(row_of(row), row_of(row) + m.width, [](float x) { return std::abs(x) <= kUntrained; }))
        untrained.push_back(begin + row);
    // Each column adds its rows in their order, whatever the number of threads.
    parallel_for(0, m.width, 64, [&](int64_t first, int64_t last) {
      for (int64_t row = 0; row < count; ++row)
        for (int64_t i = first; i < last; ++i)
          sum[static_cast<size_t>(i)] += static_cast<double>(row_of(row)[i]);
    });
  }
  const int64_t trained = known - static_cast<int64_t>(untrained.size());
  if (trained <= 0) fail("{}: no row of the tensor '{}' was ever trained", source_.where(), name);
  for (const double column : sum) m.mean.push_back(static_cast<float>(column / static_cast<double>(trained)));
  if (rows.repair_untrained) {
    for (const int64_t row : untrained) m.set[row];
    repaired_ = std::max(repaired_, static_cast<int64_t>(untrained.size()));
  }
  for (int64_t row = m.source_rows; row < rows.rows; ++row) m.set[row];
  for (size_t i = 0; i < rows.fresh.size(); ++i) {
    std::vector<float>& row = m.set[rows.fresh[i]];
    std::vector<int32_t> spelling = i < rows.spellings.size() ? rows.spellings[i] : std::vector<int32_t>();
    std::erase_if(spelling, [&](int32_t id) { return id < 0 || id >= known; });
    if (rows.spelling_share <= 0 || spelling.empty()) continue;
    std::vector<double> spelled(static_cast<size_t>(m.width));
    for (const int32_t id : spelling) {
      read_elements(source_, name, shape, id * m.width, m.width, values, whole);
      for (size_t k = 0; k < spelled.size(); ++k) spelled[k] += static_cast<double>(values[k]);
    }
    for (size_t k = 0; k < spelled.size(); ++k)
      row.push_back(
          static_cast<float>(static_cast<double>(m.mean[k]) * (1 - rows.spelling_share) +
                             spelled[k] / static_cast<double>(spelling.size()) * rows.spelling_share));
  }
  return m;
}

std::optional<Shape> GrownSource::shape(const std::string& name) const {
  const auto it = matrices_.find(name);
  return it == matrices_.end() ? source_.shape(name) : Shape{rows_, it->second.width};
}

void GrownSource::read(const std::string& name, void* target, DType dtype) const {
  const auto it = matrices_.find(name);
  if (it == matrices_.end()) return source_.read(name, target, dtype);
  if (read_part(name, 0, rows_ * it->second.width, target, dtype)) return;
  const Matrix& m = it->second;
  source_.read(name, target, dtype);
  for (const auto& [row, values] : m.set)
    convert_elements((values.empty() ? m.mean : values).data(), DType::f32,
                     static_cast<std::byte*>(target) + row * m.width * size_of(dtype), dtype, m.width);
}

bool GrownSource::read_part(const std::string& name, int64_t first, int64_t count, void* target,
                            DType dtype) const {
  const auto it = matrices_.find(name);
  if (it == matrices_.end()) return source_.read_part(name, first, count, target, dtype);
  const Matrix& m = it->second;
  const int64_t from_source = std::clamp<int64_t>(m.source_rows * m.width - first, 0, count);
  if (from_source > 0 && !source_.read_part(name, first, from_source, target, dtype)) return false;
  const int64_t end = first + count;
  for (auto row = m.set.lower_bound(first / m.width); row != m.set.end() && row->first * m.width < end;
       ++row) {
    const std::vector<float>& values = row->second.empty() ? m.mean : row->second;
    const int64_t begin = std::max(first, row->first * m.width),
                  stop = std::min(end, (row->first + 1) * m.width);
    convert_elements(values.data() + (begin - row->first * m.width), DType::f32,
                     static_cast<std::byte*>(target) + (begin - first) * size_of(dtype), dtype, stop - begin);
  }
  return true;
}

}  // namespace serval
