#include "plan/streams.h"

#include "base/error.h"

namespace serval {

std::vector<int> assign_streams(const Program& program) {
  std::vector<int> side(program.calls.size(), -1);
  std::vector<int64_t> pending;  // by side stream: the start whose wait is still to come, or -1
  for (size_t c = 0; c < program.calls.size(); ++c) {
    const OpCall& call = program.calls[c];
    if (call.entry == EntryKind::start) {
      size_t free = 0;
      while (free < pending.size() && pending[free] >= 0) ++free;
      if (free == pending.size()) pending.push_back(-1);
      pending[free] = static_cast<int64_t>(c);
      side[c] = static_cast<int>(free);
    } else if (call.entry == EntryKind::wait) {
      SERVAL_CHECK(
          call.pair >= 0 && static_cast<size_t>(call.pair) < c && side[static_cast<size_t>(call.pair)] >= 0,
          "'{}' waits for no start", call.name);
      side[c] = side[static_cast<size_t>(call.pair)];
      int64_t& start = pending[static_cast<size_t>(side[c])];
      SERVAL_CHECK(start == call.pair, "'{}' is waited for twice", call.name);
      start = -1;
    }
  }
  for (const int64_t start : pending)
    SERVAL_CHECK(start < 0, "nothing waits for '{}'", program.calls[static_cast<size_t>(start)].name);
  return side;
}

}  // namespace serval
