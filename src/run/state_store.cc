#include "run/state_store.h"

#include "base/error.h"
#include "plan/arena.h"

namespace serval {

void StateStore::declare(const Program& program) {
  SERVAL_CHECK(buffer_.data() == nullptr, "states are declared before they are allocated");
  for (const auto& decl : program.tensors) {
    if (decl.kind != TensorKind::state || decl.base != kNone) continue;
    if (const auto it = index_.find(decl.name); it != index_.end()) {
      const State& old = states_[it->second];
      SERVAL_CHECK(old.dtype == decl.dtype && old.shape == decl.shape, "state '{}'", decl.name);
      continue;
    }
    index_.emplace(decl.name, states_.size());
    states_.push_back({decl.name, decl.dtype, decl.shape, decl.role, bytes_});
    bytes_ += (states_.back().bytes() + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
  }
}

void StateStore::allocate() {
  buffer_ = Buffer(*device_, bytes_);
}

const StateStore::State& StateStore::state(std::string_view name) const {
  const auto it = index_.find(name);
  SERVAL_CHECK(it != index_.end(), "no state '{}'", name);
  return states_[it->second];
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
  return {data(name), s.dtype, s.shape.row_size(), s.shape.rows(), s.shape.row_size()};
}

void StateStore::read(std::string_view name, void* target) const {
  device_->copy_to_host(target, data(name), state(name).bytes());
}
void StateStore::write(std::string_view name, const void* source) {
  device_->copy_from_host(data(name), source, state(name).bytes());
}
void StateStore::zero(std::string_view name) {
  device_->fill_zero(data(name), state(name).bytes());
}

}  // namespace serval
