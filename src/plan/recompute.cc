#include "plan/recompute.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "program/op.h"

namespace serval {
namespace {

// Where each root temporary is written for the first time.
std::vector<int64_t> producers(const Program& program) {
  std::vector<int64_t> producer(program.tensors.size(), -1);
  for (size_t i = 0; i < program.calls.size(); ++i)
    for (const TensorId id : program.calls[i].outputs)
      if (id != kNone && producer[static_cast<size_t>(program.root(id))] < 0)
        producer[static_cast<size_t>(program.root(id))] = static_cast<int64_t>(i);
  return producer;
}

// Only a pure forward call on whole tensors can be repeated.
bool repeatable(const OpCall& call) {
  return call.phase == Phase::forward && call.updates.empty() && call.entry == EntryKind::call;
}

template <class Predicate>
DropList drop_where(const Program& program, Predicate predicate) {
  DropList drop(program.tensors.size(), false);
  for (const auto& call : program.calls) {
    if (!repeatable(call)) continue;
    for (size_t o = 0; o < call.outputs.size(); ++o) {
      const TensorId id = call.outputs[o];
      if (id != kNone && program.tensor(id).base == kNone && predicate(call, o))
        drop[static_cast<size_t>(id)] = true;
    }
  }
  return drop;
}

class Recomputer {
 public:
  Recomputer(const Program& source, const DropList& drop)
      : source_(source), drop_(drop), producer_(producers(source)), builder_(result_) {
    result_.name = source.name;
    result_.device = source.device;
    result_.tensors = source.tensors;
    builder_.set_phase(Phase::backward);
  }

  Program run() {
    for (const auto& call : source_.calls) {
      OpCall copy = call;
      if (call.phase == Phase::backward)
        for (TensorId& id : copy.inputs) id = available(id);
      if (copy.entry == EntryKind::wait) copy.pair = position_[static_cast<size_t>(copy.pair)];
      position_.push_back(static_cast<int32_t>(result_.calls.size()));
      result_.calls.push_back(std::move(copy));
    }
    return std::move(result_);
  }

 private:
  bool dropped(TensorId root) const {
    return static_cast<size_t>(root) < drop_.size() && drop_[static_cast<size_t>(root)];
  }

  // The tensor itself where it is kept, else its second computation.
  TensorId available(TensorId id) {
    if (id == kNone || !dropped(source_.root(id))) return id;
    const TensorId again = compute_again(source_.root(id));
    if (source_.tensor(id).base == kNone) return again;
    return builder_.same_view(id, again);
  }

  TensorId compute_again(TensorId root) {
    if (const auto it = again_.find(root); it != again_.end()) return it->second;
    const OpCall call = source_.calls[static_cast<size_t>(producer_[static_cast<size_t>(root)])];
    const size_t index =
        static_cast<size_t>(std::find(call.outputs.begin(), call.outputs.end(), root) - call.outputs.begin());
    if (const TensorId id = byproduct(call, index, root); id != kNone) return again_[root] = id;
    if (call.op->recompute != nullptr) {
      // The rule may read other outputs of the call, where they are kept.
      OpCall view = call;
      for (size_t o = 0; o < view.outputs.size(); ++o)
        if (view.outputs[o] != kNone && dropped(view.outputs[o])) view.outputs[o] = kNone;
      const size_t before = result_.calls.size();
      if (const TensorId id = call.op->recompute(builder_, view, index); id != kNone) {
        for (size_t c = before; c < result_.calls.size(); ++c) result_.calls[c].recomputed = true;
        return again_[root] = id;
      }
    }
    OpCall repeat = call;
    repeat.phase = Phase::backward;
    repeat.recomputed = true;
    for (TensorId& id : repeat.inputs) id = available(id);
    for (TensorId& id : repeat.outputs) {
      if (id == kNone) continue;
      const TensorId old = id;
      TensorDecl decl = result_.tensor(old);
      decl.name += ".again";
      result_.tensors.push_back(std::move(decl));
      id = static_cast<TensorId>(result_.tensors.size() - 1);
      if (dropped(old)) again_[old] = id;
    }
    result_.calls.push_back(repeat);
    return again_.at(root);
  }

  // Where the derivative of the producing call has run already, it gives the tensor along the way.
  TensorId byproduct(const OpCall& producer, size_t index, TensorId root) {
    if (producer.op->backward == nullptr || index != 0) return kNone;
    for (OpCall& call : result_.calls) {
      if (call.op != producer.op->backward || call.name != producer.name) continue;
      TensorId& id = call.outputs[producer.op->byproduct];
      if (id == kNone) {
        TensorDecl decl = source_.tensor(root);
        decl.name += ".again";
        result_.tensors.push_back(std::move(decl));
        id = static_cast<TensorId>(result_.tensors.size() - 1);
      }
      return id;
    }
    return kNone;
  }

  const Program& source_;
  const DropList& drop_;
  std::vector<int64_t> producer_;
  Program result_;
  ProgramBuilder builder_;
  std::map<TensorId, TensorId> again_;
  std::vector<int32_t> position_;  // of each source call in the result
};

// A linear layer's narrow x A^T is read by backward where its wide output may not be: that output alone is no
// reason to repeat the call. Such small outputs are kept.
class SmallOutputs {
 public:
  SmallOutputs(const Program& program, DropList drop)
      : program_(program), drop_(std::move(drop)), producer_(producers(program)) {}

  DropList keep() {
    needed_.assign(program_.tensors.size(), false);
    for (const OpCall& call : program_.calls)
      if (call.phase != Phase::forward) need_inputs(call);
    for (const OpCall& call : program_.calls) {
      if (!repeatable(call) || 32 * bytes(call, true) >= bytes(call, false)) continue;
      for (const TensorId id : call.outputs)
        if (id != kNone && needed_[static_cast<size_t>(id)]) drop_[static_cast<size_t>(id)] = false;
    }
    return std::move(drop_);
  }

 private:
  bool dropped(TensorId id) const { return id != kNone && drop_[static_cast<size_t>(id)]; }

  void need_inputs(const OpCall& call) {
    for (const TensorId id : call.inputs) {
      if (id == kNone || !dropped(program_.root(id))) continue;
      const auto root = static_cast<size_t>(program_.root(id));
      if (needed_[root]) continue;
      needed_[root] = true;
      const OpCall& producer = program_.calls[static_cast<size_t>(producer_[root])];
      // The op's own short way reads an output that is kept.
      const bool short_way =
          producer.op->recompute != nullptr &&
          std::any_of(producer.outputs.begin(), producer.outputs.end(),
                      [&](TensorId output) { return output != kNone && !dropped(output); });
      if (!short_way) need_inputs(producer);
    }
  }

  int64_t bytes(const OpCall& call, bool needed) const {
    int64_t sum = 0;
    for (const TensorId id : call.outputs)
      if (id != kNone && (!needed || needed_[static_cast<size_t>(id)]))
        sum += program_.tensor(id).span_bytes();
    return sum;
  }

  const Program& program_;
  DropList drop_;
  std::vector<int64_t> producer_;
  std::vector<bool> needed_;  // by root: read by backward, or to compute again what it reads
};

}  // namespace

DropList drop_cheap(const Program& program) {
  return drop_where(program, [](const OpCall& call, size_t output) {
    return (call.op->cheap_outputs >> output & 1u) != 0;
  });
}

DropList drop_all_but_block_inputs(const Program& program) {
  const DropList all = drop_where(program, [&](const OpCall& call, size_t output) {
    return call.name.find("layers.") != std::string::npos && !program.tensor(call.outputs[output]).keep;
  });
  return SmallOutputs(program, all).keep();
}

DropList drop_ops(const Program& program, const std::vector<std::string>& op_names) {
  return drop_where(program, [&](const OpCall& call, size_t output) {
    if (program.tensor(call.outputs[output]).keep) return false;
    return (call.op->cheap_outputs >> output & 1u) != 0 ||
           std::find(op_names.begin(), op_names.end(), call.op->name) != op_names.end();
  });
}

Program recompute(const Program& program, const DropList& drop) {
  return Recomputer(program, drop).run();
}

}  // namespace serval
