#include "plan/offload.h"

#include <algorithm>
#include <limits>
#include <map>

#include "ops/host_copy/host_copy.h"
#include "program/op.h"

namespace serval {
namespace {

struct Kept {
  TensorId id = kNone;
  int64_t written = -1;       // the last forward call that writes it
  int64_t last_forward = -1;  // and the last one that reads or writes it
  int64_t backward = -1;      // the first later call that reads it
  // Where its pairs stand: after these calls, or before them.
  int64_t wait_to_host_after = -1, start_fetch_before = -1;
  TensorId host = kNone, fetched = kNone;
  int32_t open = -1;  // the start whose wait is still to come
};

// Block inputs that forward writes and later calls only read, in the order in which these need them.
std::vector<Kept> kept_inputs(const Program& program) {
  const auto forward_end = std::find_if(program.calls.begin(), program.calls.end(),
                                        [](const OpCall& call) { return call.phase != Phase::forward; }) -
                           program.calls.begin();
  std::vector<Kept> uses(program.tensors.size());
  std::vector<bool> fit(program.tensors.size());
  for (size_t id = 0; id < uses.size(); ++id) {
    const TensorDecl& decl = program.tensors[id];
    fit[id] = decl.keep && decl.kind == TensorKind::temporary && decl.base == kNone && !decl.host;
    uses[id].id = static_cast<TensorId>(id);
  }
  for (int64_t c = 0; c < static_cast<int64_t>(program.calls.size()); ++c) {
    const OpCall& call = program.calls[static_cast<size_t>(c)];
    const auto note = [&](TensorId id, bool writes) {
      if (id == kNone) return;
      const auto root = static_cast<size_t>(program.root(id));
      Kept& use = uses[root];
      if (c < forward_end) {
        if (writes) use.written = c;
        use.last_forward = c;
      } else if (use.backward < 0) {
        use.backward = c;
      }
      fit[root] = fit[root] && call.entry == EntryKind::call && (c < forward_end || !writes);
    };
    for (const TensorId id : call.inputs) note(id, false);
    for (const TensorId id : call.outputs) note(id, true);
    for (const TensorId id : call.updates) note(id, true);
  }
  std::vector<Kept> kept;
  for (size_t id = 0; id < uses.size(); ++id)
    if (fit[id] && uses[id].written >= 0 && uses[id].backward >= 0) kept.push_back(uses[id]);
  std::stable_sort(kept.begin(), kept.end(), [](const Kept& a, const Kept& b) {
    return a.backward != b.backward ? a.backward < b.backward : a.written > b.written;
  });
  return kept;
}

// A copy may take until the next block's input is written, and a fetch the whole block before it.
void place(std::vector<Kept>& kept) {
  for (size_t k = 1; k < kept.size(); ++k) {
    Kept& input = kept[k];
    input.start_fetch_before = kept[k - 1].backward;
    int64_t next_written = std::numeric_limits<int64_t>::max();
    for (const Kept& other : kept)
      if (other.written > input.written) next_written = std::min(next_written, other.written);
    if (next_written == std::numeric_limits<int64_t>::max()) next_written = input.last_forward;
    input.wait_to_host_after = std::max(input.last_forward, next_written);
  }
}

class Offloader {
 public:
  explicit Offloader(const Program& source) : source_(source), kept_(kept_inputs(source)), builder_(result_) {
    place(kept_);
    result_.name = source.name;
    result_.device = source.device;
    result_.tensors = source.tensors;
  }

  Program run() {
    for (int64_t c = 0; c < static_cast<int64_t>(source_.calls.size()); ++c) {
      before(c);
      OpCall call = source_.calls[static_cast<size_t>(c)];
      for (TensorId& id : call.inputs) id = near(id, c);
      if (call.entry == EntryKind::wait) call.pair = position_[static_cast<size_t>(call.pair)];
      position_.push_back(static_cast<int32_t>(result_.calls.size()));
      result_.calls.push_back(std::move(call));
      after(c);
    }
    return std::move(result_);
  }

 private:
  void before(int64_t c) {
    builder_.set_phase(Phase::backward);
    for (size_t k = 0; k < kept_.size(); ++k) {
      if (kept_[k].backward != c) continue;
      if (k > 0) wait(kept_[k]);
      if (k + 1 < kept_.size()) fetch(kept_[k + 1]);
    }
  }

  void after(int64_t c) {
    builder_.set_phase(Phase::forward);
    for (size_t k = 1; k < kept_.size(); ++k)
      if (kept_[k].wait_to_host_after == c && kept_[k].open >= 0) wait(kept_[k]);
    for (size_t k = 1; k < kept_.size(); ++k) {
      if (kept_[k].written != c) continue;
      copy_out(kept_[k]);
      if (kept_[k].wait_to_host_after == c) wait(kept_[k]);
    }
  }

  TensorId copy_of(TensorId id, const char* suffix, bool host) {
    TensorDecl decl = source_.tensor(id);
    decl.name += suffix;
    decl.keep = false;
    if (host) decl.row_stride = decl.shape.row_size();
    decl.host = host;
    result_.tensors.push_back(std::move(decl));
    return static_cast<TensorId>(result_.tensors.size() - 1);
  }

  void copy_out(Kept& input) {
    input.host = copy_of(input.id, ".host", true);
    ops::copy_to_host(builder_, source_.tensor(input.id).name + ".to_host", input.id, input.host);
    start(input);
  }
  void fetch(Kept& input) {
    input.fetched = copy_of(input.id, ".fetched", false);
    ops::copy_from_host(builder_, source_.tensor(input.id).name + ".from_host", input.host, input.fetched);
    start(input);
  }
  void start(Kept& input) {
    result_.calls.back().entry = EntryKind::start;
    input.open = static_cast<int32_t>(result_.calls.size()) - 1;
  }
  void wait(Kept& input) {
    const OpCall& begun = result_.calls[static_cast<size_t>(input.open)];
    OpCall call{.op = begun.op,
                .name = begun.name,
                .inputs = {},
                .outputs = {},
                .updates = {},
                .attributes = {},
                .phase = builder_.phase(),
                .entry = EntryKind::wait,
                .pair = input.open};
    input.open = -1;
    result_.calls.push_back(std::move(call));
  }

  // The fetched copy, where a later call reads an input that has left.
  TensorId near(TensorId id, int64_t c) {
    if (id == kNone) return id;
    const TensorId root = source_.root(id);
    for (const Kept& input : kept_) {
      if (input.id != root || input.fetched == kNone || c < input.backward) continue;
      if (root == id) return input.fetched;
      const auto known = views_.find(id);
      return known != views_.end() ? known->second : views_[id] = builder_.same_view(id, input.fetched);
    }
    return id;
  }

  const Program& source_;
  std::vector<Kept> kept_;  // the first one stays
  Program result_;
  ProgramBuilder builder_;
  std::map<TensorId, TensorId> views_;
  std::vector<int32_t> position_;  // of each source call in the result
};

}  // namespace

Program offload_block_inputs(const Program& program) {
  return Offloader(program).run();
}

}  // namespace serval
