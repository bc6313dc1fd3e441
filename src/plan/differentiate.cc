#include "plan/differentiate.h"

#include <map>
#include <utility>

#include "ops/elementwise/elementwise.h"
#include "program/derive.h"
#include "program/op.h"

namespace serval {
namespace {

class Differentiator final : public DeriveContext {
 public:
  Differentiator(Program& program, std::span<const ParameterGradient> parameters,
                 std::span<const GradientSeed> seeds)
      : program_(program), builder_(program) {
    builder_.set_phase(Phase::backward);
    for (const auto& p : parameters) accumulators_[p.parameter] = p.gradient;
    find_dependents();
    for (const auto& seed : seeds) gradients_[seed.tensor] = {seed.gradient, false};
  }

  void run() {
    const size_t forward_calls = program_.calls.size();
    for (size_t i = forward_calls; i-- > 0;) {
      call_ = program_.calls[i];  // a copy: appending calls moves the list
      if (call_.op->derive == nullptr || !depends_on_parameters(call_)) continue;
      bool reached = call_.op->is_loss;
      for (size_t o = 0; o < call_.outputs.size(); ++o) reached = reached || output_gradient(o) != kNone;
      if (!reached) continue;
      call_.op->derive(*this);
      add_pending();
    }
  }

  ProgramBuilder& builder() override { return builder_; }
  const OpCall& call() const override { return call_; }

  TensorId output_gradient(size_t i) override {
    if (i >= call_.outputs.size() || call_.outputs[i] == kNone) return kNone;
    const TensorId id = call_.outputs[i];
    if (const auto it = gradients_.find(id); it != gradients_.end()) return it->second.tensor;
    // Consumers read views of this output: their gradients lie in one tensor of the root's shape.
    if (const auto it = assembled_.find(program_.root(id)); it != assembled_.end())
      return builder_.same_view(id, it->second);
    return kNone;
  }

  bool wants(size_t input) const override {
    if (input >= call_.inputs.size() || call_.inputs[input] == kNone) return false;
    const TensorId id = call_.inputs[input];
    return program_.tensor(id).kind == TensorKind::temporary &&
           dependent_[static_cast<size_t>(program_.root(id))];
  }

  TensorId parameter_gradient(size_t input) const override {
    if (input >= call_.inputs.size()) return kNone;
    const auto it = accumulators_.find(call_.inputs[input]);
    return it == accumulators_.end() ? kNone : it->second;
  }

  TensorId gradient_slot(size_t input) override {
    if (!wants(input)) return kNone;
    const TensorId id = call_.inputs[input];
    if (gradients_.contains(id)) {
      const TensorDecl decl = program_.tensor(id);
      const TensorId part = builder_.temporary(call_.name + ".gradient_part", decl.dtype, decl.shape,
                                               decl.count, Role::gradient);
      pending_.emplace_back(id, part);
      return part;
    }
    const TensorId slot = new_slot(id);
    gradients_[id] = {slot, true};
    return slot;
  }

  void give(size_t input, TensorId gradient) override {
    if (!wants(input) || gradient == kNone) return;
    const TensorId id = call_.inputs[input];
    if (gradients_.contains(id)) {
      pending_.emplace_back(id, gradient);
    } else if (program_.tensor(id).base == kNone) {
      gradients_[id] = {gradient, false};
    } else {
      const TensorId slot = new_slot(id);
      ops::copy(builder_, call_.name + ".gradient_copy", gradient, slot);
      gradients_[id] = {slot, true};
    }
  }

 private:
  struct Gradient {
    TensorId tensor = kNone;
    bool owned = false;  // written by this tensor's consumers alone, so it may be added to in place
  };

  void find_dependents() {
    dependent_.assign(program_.tensors.size(), false);
    for (const auto& [parameter, gradient] : accumulators_) dependent_[static_cast<size_t>(parameter)] = true;
    for (const auto& call : program_.calls) {
      if (!depends_on_parameters(call)) continue;
      for (const TensorId id : call.outputs)
        if (id != kNone && is_floating(program_.tensor(id).dtype))
          dependent_[static_cast<size_t>(program_.root(id))] = true;
    }
    // Which views of a tensor are read decides whether their gradients cover it.
    for (const auto& call : program_.calls)
      for (const TensorId id : call.inputs)
        if (id != kNone) ++readers_[id];
  }

  bool depends_on_parameters(const OpCall& call) const {
    for (const auto* list : {&call.inputs, &call.updates})
      for (const TensorId id : *list)
        if (id != kNone && static_cast<size_t>(program_.root(id)) < dependent_.size() &&
            dependent_[static_cast<size_t>(program_.root(id))])
          return true;
    return false;
  }

  // A tensor for the first contribution to the gradient of `id`.
  TensorId new_slot(TensorId id) {
    const TensorId root = program_.root(id);
    const TensorDecl decl = program_.tensor(root);
    const bool has_views = [&] {
      for (const auto& [reader, count] : readers_)
        if (reader != root && program_.root(reader) == root) return true;
      return false;
    }();
    if (!has_views)
      return builder_.temporary(decl.name + ".gradient", decl.dtype, decl.shape, decl.count, Role::gradient);
    auto it = assembled_.find(root);
    if (it == assembled_.end()) {
      const TensorId whole =
          builder_.temporary(decl.name + ".gradient", decl.dtype, decl.shape, decl.count, Role::gradient);
      it = assembled_.emplace(root, whole).first;
      int64_t covered = 0;
      for (const auto& [reader, count] : readers_)
        if (program_.root(reader) == root) covered += program_.tensor(reader).shape.elements();
      SERVAL_CHECK(covered <= decl.shape.elements(), "overlapping views of '{}' have gradients", decl.name);
      if (covered < decl.shape.elements()) ops::fill_zero(builder_, decl.name + ".gradient_zero", whole);
    }
    return builder_.same_view(id, it->second);
  }

  void add_pending() {
    for (const auto& [id, part] : std::exchange(pending_, {})) {
      Gradient& sum = gradients_[id];
      if (sum.owned)
        ops::accumulate(builder_, call_.name + ".gradient_sum", sum.tensor, part);
      else
        sum = {ops::add(builder_, call_.name + ".gradient_sum", sum.tensor, part), true};
    }
  }

  Program& program_;
  ProgramBuilder builder_;
  OpCall call_;
  std::map<TensorId, TensorId> accumulators_;  // parameter -> its gradient state
  std::vector<bool> dependent_;                // by root: depends on a trained parameter
  std::map<TensorId, int> readers_;            // forward reads of each tensor or view
  std::map<TensorId, Gradient> gradients_;
  std::map<TensorId, TensorId> assembled_;  // root -> its gradient, where views are written apart
  std::vector<std::pair<TensorId, TensorId>> pending_;
};

}  // namespace

void differentiate(Program& program, std::span<const ParameterGradient> parameters,
                   std::span<const GradientSeed> seeds) {
  Differentiator(program, parameters, seeds).run();
}

}  // namespace serval
