#include "plan/arena.h"

#include <algorithm>

#include "program/op.h"

namespace serval {
namespace {

struct Item {
  int64_t bytes = 0, first = 0, last = 0;
  int64_t tensor = -1, call = -1;  // one of the two
  int64_t offset = 0;
};

int64_t aligned(int64_t bytes) {
  return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

// Of the arena, or of its counterpart in host memory.
std::vector<Item> items_of(const Program& program, bool host) {
  std::vector<Item> items;
  const auto lives = lifetimes(program);
  const int64_t end = static_cast<int64_t>(program.calls.size());
  for (size_t id = 0; id < program.tensors.size(); ++id) {
    const auto& decl = program.tensors[id];
    if (decl.kind == TensorKind::state || decl.base != kNone || decl.host != host || decl.span_bytes() == 0)
      continue;
    if (decl.kind == TensorKind::input)
      items.push_back(
          {.bytes = aligned(decl.span_bytes()), .first = 0, .last = end, .tensor = static_cast<int64_t>(id)});
    else if (lives[id].first >= 0)
      items.push_back({.bytes = aligned(decl.span_bytes()),
                       .first = lives[id].first,
                       .last = lives[id].last,
                       .tensor = static_cast<int64_t>(id)});
  }
  if (host) return items;
  std::vector<int64_t> wait(program.calls.size(), -1);
  for (size_t c = 0; c < program.calls.size(); ++c)
    if (program.calls[c].entry == EntryKind::wait)
      wait[static_cast<size_t>(program.calls[c].pair)] = static_cast<int64_t>(c);
  for (size_t c = 0; c < program.calls.size(); ++c) {
    if (const int64_t bytes = workspace_of(CallView{program, program.calls[c]}); bytes > 0) {
      const int64_t at = static_cast<int64_t>(c);
      items.push_back({.bytes = aligned(bytes), .first = at, .last = std::max(at, wait[c]), .call = at});
    }
  }
  return items;
}

// Greedy by size: the largest first, each at the lowest offset that is free for its whole life. Returns the
// bytes that are used.
int64_t place(std::vector<Item>& items) {
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.bytes > b.bytes; });
  int64_t bytes = 0;
  std::vector<const Item*> placed;  // by offset
  for (auto& item : items) {
    int64_t best = -1, best_gap = 0, end = 0;
    for (const Item* other : placed) {
      if (other->last < item.first || item.last < other->first) continue;
      const int64_t gap = other->offset - end;
      if (gap >= item.bytes && (best < 0 || gap < best_gap)) {
        best = end;
        best_gap = gap;
      }
      end = std::max(end, other->offset + other->bytes);
    }
    item.offset = best >= 0 ? best : end;
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &item,
                                   [](const Item* a, const Item* b) { return a->offset < b->offset; }),
                  &item);
    bytes = std::max(bytes, item.offset + item.bytes);
  }
  return bytes;
}

}  // namespace

std::vector<Lifetime> lifetimes(const Program& program) {
  std::vector<Lifetime> lives(program.tensors.size());
  const auto touch = [&](TensorId id, int64_t at) {
    auto& life = lives[static_cast<size_t>(program.root(id))];
    if (life.first < 0) life.first = at;
    life.last = std::max(life.last, at);
  };
  for (size_t c = 0; c < program.calls.size(); ++c) {
    const auto& call = program.calls[c];
    for_each_operand(call, [&](TensorId id) { touch(id, static_cast<int64_t>(c)); });
    if (call.entry == EntryKind::wait)
      for_each_operand(program.calls[static_cast<size_t>(call.pair)],
                       [&](TensorId id) { touch(id, static_cast<int64_t>(c)); });
  }
  return lives;
}

ArenaPlan plan_arena(const Program& program) {
  ArenaPlan plan;
  plan.offsets.assign(program.tensors.size(), -1);
  plan.workspace_offsets.assign(program.calls.size(), -1);
  for (const bool host : {false, true}) {
    std::vector<Item> items = items_of(program, host);
    (host ? plan.host_bytes : plan.bytes) = place(items);
    for (const Item& item : items) {
      if (item.tensor >= 0)
        plan.offsets[static_cast<size_t>(item.tensor)] = item.offset;
      else
        plan.workspace_offsets[static_cast<size_t>(item.call)] = item.offset;
    }
  }
  return plan;
}

int64_t arena_lower_bound(const Program& program) {
  std::vector<int64_t> change(program.calls.size() + 2, 0);
  for (const auto& item : items_of(program, false)) {
    change[static_cast<size_t>(item.first)] += item.bytes;
    change[static_cast<size_t>(item.last) + 1] -= item.bytes;
  }
  int64_t alive = 0, most = 0;
  for (const int64_t delta : change) most = std::max(most, alive += delta);
  return most;
}

}  // namespace serval
