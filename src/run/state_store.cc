#include "run/state_store.h"

#include "base/error.h"
#include "plan/arena.h"

namespace serval {

void StateStore::declare(const Program& program) {
  SERVAL_CHECK(buffer_.data() == nullptr, "states are declared before they are allocated");
  const auto known = [&](const TensorDecl& decl) {
    const auto it = by_name_.find(decl.name);
    if (it == by_name_.end()) return false;
    SERVAL_CHECK(it->second.dtype == decl.dtype && it->second.shape == decl.shape, "state '{}'", decl.name);
    return true;
  };
  for (const auto& decl : program.tensors) {
    if (decl.kind != TensorKind::state || decl.base != kNone || known(decl)) continue;
    add(decl.name, decl.dtype, decl.shape, decl.role);
  }
  for (const auto& decl : program.tensors) {
    if (decl.kind != TensorKind::state || !decl.named || known(decl)) continue;
    const State& whole = state(program.tensor(decl.base).name);
    by_name_.emplace(decl.name, State{decl.name, decl.dtype, decl.shape, decl.role,
                                      whole.offset + decl.offset * size_of(decl.dtype), decl.row_stride});
  }
}

void StateStore::add(const std::string& name, DType dtype, const Shape& shape, Role role) {
  states_.push_back({name, dtype, shape, role, bytes_, shape.row_size()});
  by_name_.emplace(name, states_.back());
  bytes_ += (states_.back().bytes() + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

void StateStore::declare(const StateStore& other, const std::vector<std::string>& names) {
  SERVAL_CHECK(buffer_.data() == nullptr, "states are declared before they are allocated");
  for (const std::string& name : names) {
    const State& s = other.state(name);
    SERVAL_CHECK(!contains(name), "state '{}' is copied twice", name);
    add(name, s.dtype, s.shape, s.role);
  }
}

void StateStore::copy_from(const StateStore& other) {
  SERVAL_CHECK(device_->kind() == DeviceKind::cpu, "copies are made for the host");
  for (const State& s : states_) other.read(s.name, data(s.name));
}

void StateStore::allocate() {
  buffer_ = Buffer(*device_, bytes_);
}

const StateStore::State& StateStore::state(std::string_view name) const {
  const auto it = by_name_.find(name);
  SERVAL_CHECK(it != by_name_.end(), "no state '{}'", name);
  return it->second;
}

int64_t StateStore::bytes_of(Role role) const {
  int64_t bytes = 0;
  for (const auto& s : states_)
    if (s.role == role) bytes += s.bytes();
  return bytes;
}

void* StateStore::data(std::string_view name) const {
  return static_cast<char*>(buffer_.data()) + state(name).offset;
}

Operand StateStore::operand(std::string_view name) const {
  const State& s = state(name);
  return {data(name), s.dtype, s.row_stride, s.shape.rows(), s.shape.row_size()};
}

namespace {

// A dense range is one row.
struct Rows {
  char* data;
  int64_t row_bytes, stride_bytes, rows;
};

Rows rows_of(const StateStore::State& s, void* data, int64_t first, int64_t count) {
  SERVAL_CHECK(first >= 0 && count >= 0 && first + count <= s.shape.elements(), "state '{}'", s.name);
  const int64_t size = size_of(s.dtype);
  if (s.dense()) return {static_cast<char*>(data) + first * size, count * size, count * size, 1};
  const int64_t row_size = s.shape.row_size();
  SERVAL_CHECK(first % row_size == 0 && count % row_size == 0, "state '{}'", s.name);
  return {static_cast<char*>(data) + first / row_size * s.row_stride * size, row_size * size,
          s.row_stride * size, count / row_size};
}

}  // namespace

void StateStore::read(std::string_view name, void* target) const {
  const State& s = state(name);
  const Rows rows = rows_of(s, data(name), 0, s.shape.elements());
  device_->copy_rows_to_host(target, rows.data, rows.row_bytes, rows.rows, rows.stride_bytes);
}
void StateStore::write(std::string_view name, const void* source) {
  const State& s = state(name);
  const Rows rows = rows_of(s, data(name), 0, s.shape.elements());
  device_->copy_rows_from_host(rows.data, rows.stride_bytes, source, rows.row_bytes, rows.rows);
}
void StateStore::zero(std::string_view name) {
  const Rows rows = rows_of(state(name), data(name), 0, state(name).shape.elements());
  for (int64_t row = 0; row < rows.rows; ++row)
    device_->fill_zero(rows.data + row * rows.stride_bytes, rows.row_bytes);
}

void StateStore::with_values(std::string_view name, int64_t first, int64_t count,
                             const std::function<void(const void*)>& use) const {
  const State& s = state(name);
  const Rows rows = rows_of(s, data(name), first, count);
  if (device_->kind() == DeviceKind::cpu && rows.rows == 1) {
    use(rows.data);
    return;
  }
  host_.resize(static_cast<size_t>(count * size_of(s.dtype)));
  device_->copy_rows_to_host(host_.data(), rows.data, rows.row_bytes, rows.rows, rows.stride_bytes);
  use(host_.data());
}

void StateStore::fill(std::string_view name, int64_t first, int64_t count, const ProducePart& produce) {
  const State& s = state(name);
  const Rows rows = rows_of(s, data(name), first, count);
  const int64_t size = size_of(s.dtype);
  device_->fill_rows(
      rows.data, rows.stride_bytes, rows.row_bytes, rows.rows,
      [&](void* part, int64_t first_byte, int64_t bytes) { produce(part, first_byte / size, bytes / size); });
}

}  // namespace serval
