#include "plan/differentiate.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
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
    find_views(seeds);
    for (const auto& seed : seeds) receive(seed.tensor, seed.gradient, "seed");
    add_pending();
  }

  void run() {
    const size_t forward_calls = program_.calls.size();
    for (size_t i = forward_calls; i-- > 0;) {
      call_ = program_.calls[i];  // a copy: appending calls moves the list
      if (call_.op->derive == nullptr || !depends_on_parameters(call_)) continue;
      bool reached = call_.op->is_loss;
      for (size_t o = 0; o < call_.outputs.size(); ++o) reached = reached || output_gradient(o) != kNone;
      if (!reached) continue;
      const auto due = std::exchange(deferred_, {});
      call_.op->derive(*this);
      add_pending();
      for (const auto& work : due) work();
    }
    for (const auto& work : deferred_) work();
  }

  ProgramBuilder& builder() override { return builder_; }
  const OpCall& call() const override { return call_; }

  TensorId output_gradient(size_t i) override {
    if (i >= call_.outputs.size() || call_.outputs[i] == kNone) return kNone;
    const TensorId id = call_.outputs[i], root = program_.root(id);
    if (const auto it = assemblies_.find(root); it != assemblies_.end()) {
      const Region region = region_of(id);
      if (!touches(it->second, region)) return kNone;
      cover(it->second, region);
      return builder_.same_view(id, it->second.whole);
    }
    const auto it = gradients_.find(id);
    return it == gradients_.end() ? kNone : it->second.tensor;
  }

  bool wants(size_t input) const override {
    if (input >= call_.inputs.size() || call_.inputs[input] == kNone) return false;
    const TensorId id = call_.inputs[input];
    return program_.tensor(id).kind == TensorKind::temporary &&
           dependent_[static_cast<size_t>(program_.root(id))];
  }

  TensorId parameter_gradient(size_t input) const override {
    if (input >= call_.inputs.size()) return kNone;
    const TensorId id = call_.inputs[input];
    if (id == kNone) return kNone;
    SERVAL_CHECK(program_.tensor(id).base == kNone || !accumulators_.contains(program_.root(id)),
                 "'{}' reads a view of a trained parameter", call_.name);
    const auto it = accumulators_.find(id);
    return it == accumulators_.end() ? kNone : it->second;
  }

  TensorId gradient_slot(size_t input) override {
    if (!wants(input)) return kNone;
    const TensorId id = call_.inputs[input];
    if (const TensorId slot = first_slot(id); slot != kNone) return slot;
    const TensorDecl decl = program_.tensor(id);
    const TensorId part =
        builder_.temporary(call_.name + ".gradient_part", decl.dtype, decl.shape, decl.count, Role::gradient);
    pending_.emplace_back(id, part);
    return part;
  }

  void defer(std::function<void()> work) override { deferred_.push_back(std::move(work)); }

  void give(size_t input, TensorId gradient) override {
    if (wants(input) && gradient != kNone) receive(call_.inputs[input], gradient, call_.name);
  }

 private:
  struct Gradient {
    TensorId tensor = kNone;
    bool owned = false;  // written by this tensor's consumers alone, so it may be added to in place
  };
  struct Region {
    int64_t row = 0, rows = 0, column = 0, columns = 0;
    bool overlaps(const Region& other) const {
      return row < other.row + other.rows && other.row < row + rows &&
             column < other.column + other.columns && other.column < column + columns;
    }
  };
  // The gradient of a tensor that is read or written through views: one tensor of the root's shape, whose
  // regions are written as the views' consumers are met.
  struct Assembly {
    TensorId whole = kNone;
    std::vector<Region> covered;  // what has been written so far
  };

  void find_dependents() {
    dependent_.assign(program_.tensors.size(), false);
    for (const auto& [parameter, gradient] : accumulators_)
      dependent_[static_cast<size_t>(program_.root(parameter))] = true;
    for (const auto& call : program_.calls) {
      if (!depends_on_parameters(call)) continue;
      for (const TensorId id : call.outputs)
        if (id != kNone && is_floating(program_.tensor(id).dtype))
          dependent_[static_cast<size_t>(program_.root(id))] = true;
    }
  }

  void find_views(std::span<const GradientSeed> seeds) {
    const auto note = [&](TensorId id) {
      if (program_.tensor(id).base != kNone) viewed_.insert(program_.root(id));
    };
    for (const auto& call : program_.calls) for_each_operand(call, note);
    for (const auto& seed : seeds) note(seed.tensor);
  }

  bool depends_on_parameters(const OpCall& call) const {
    for (const auto* list : {&call.inputs, &call.updates})
      for (const TensorId id : *list)
        if (id != kNone && static_cast<size_t>(program_.root(id)) < dependent_.size() &&
            dependent_[static_cast<size_t>(program_.root(id))])
          return true;
    return false;
  }

  Region region_of(TensorId id) const {
    const TensorDecl &decl = program_.tensor(id), &root = program_.tensor(program_.root(id));
    return {decl.offset / root.row_stride, decl.shape.rows(), decl.offset % root.row_stride,
            decl.shape.row_size()};
  }

  static bool touches(const Assembly& assembly, const Region& region) {
    return std::any_of(assembly.covered.begin(), assembly.covered.end(),
                       [&](const Region& other) { return other.overlaps(region); });
  }

  // Zeros what nobody has written of a region.
  void cover(Assembly& assembly, const Region& region) {
    const int64_t bottom = region.row + region.rows, right = region.column + region.columns;
    std::set<int64_t> borders = {region.row, bottom};
    for (const Region& other : assembly.covered)
      for (const int64_t row : {other.row, other.row + other.rows})
        if (row > region.row && row < bottom) borders.insert(row);
    for (auto band = borders.begin(); std::next(band) != borders.end(); ++band) {
      const int64_t first = *band, rows = *std::next(band) - first;
      std::map<int64_t, int64_t> written;  // column -> end
      for (const Region& other : assembly.covered)
        if (other.overlaps({first, rows, region.column, region.columns}))
          written[other.column] = std::max(written[other.column], other.column + other.columns);
      written[right] = right;
      int64_t column = region.column;
      for (const auto& [begin, end] : written) {
        if (begin > column) fill_zero(assembly.whole, {first, rows, column, begin - column});
        column = std::max(column, end);
      }
    }
    assembly.covered.push_back(region);
  }

  void fill_zero(TensorId whole, const Region& region) {
    const TensorId rows = builder_.rows(whole, region.row, region.rows);
    const TensorId part = builder_.columns(rows, region.column, region.columns);
    ops::fill_zero(builder_, program_.tensor(whole).name + "_zero", part);
  }

  TensorId new_gradient(TensorId root) {
    const TensorDecl decl = program_.tensor(root);
    return builder_.temporary(decl.name + ".gradient", decl.dtype, decl.shape, decl.count, Role::gradient);
  }

  // A tensor for the first contribution to the gradient of `id`; kNone where it must be added to others.
  TensorId first_slot(TensorId id) {
    if (gradients_.contains(id)) return kNone;
    const TensorId root = program_.root(id);
    if (!viewed_.contains(root)) {
      const TensorId slot = new_gradient(root);
      gradients_[id] = {slot, true};
      return slot;
    }
    Assembly& assembly = assemblies_[root];
    if (assembly.whole == kNone) assembly.whole = new_gradient(root);
    const TensorId slot = builder_.same_view(id, assembly.whole);
    gradients_[id] = {slot, true};
    const Region region = region_of(id);
    const bool overlaps = touches(assembly, region);
    if (overlaps)
      cover(assembly, region);
    else
      assembly.covered.push_back(region);
    return overlaps ? kNone : slot;
  }

  // Takes a tensor that exists already as a gradient of `id`, or one contribution to it.
  void receive(TensorId id, TensorId gradient, const std::string& name) {
    const bool shareable = program_.tensor(gradient).base == kNone && !is_assembly(gradient);
    if (shareable && !viewed_.contains(program_.root(id)) && !gradients_.contains(id)) {
      // Shared from now on: nobody may add to it in place.
      for (auto& [other, held] : gradients_)
        if (held.tensor == gradient) held.owned = false;
      gradients_[id] = {gradient, false};
      return;
    }
    // Two views of one tensor may overlap: what is added must not lie where it is added.
    const auto own = assemblies_.find(program_.root(id));
    if (own != assemblies_.end() && program_.root(gradient) == own->second.whole) {
      const TensorDecl decl = program_.tensor(gradient);
      const TensorId part =
          builder_.temporary(name + ".gradient_part", decl.dtype, decl.shape, decl.count, Role::gradient);
      ops::copy(builder_, name + ".gradient_copy", gradient, part);
      gradient = part;
    }
    if (const TensorId slot = first_slot(id); slot != kNone)
      ops::copy(builder_, name + ".gradient_copy", gradient, slot);
    else
      pending_.emplace_back(id, gradient);
  }

  bool is_assembly(TensorId id) const {
    return std::any_of(assemblies_.begin(), assemblies_.end(),
                       [&](const auto& entry) { return entry.second.whole == id; });
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
  std::set<TensorId> viewed_;                  // roots that forward calls read or write through views
  std::map<TensorId, Gradient> gradients_;
  std::map<TensorId, Assembly> assemblies_;  // by viewed root
  std::vector<std::pair<TensorId, TensorId>> pending_;
  std::vector<std::function<void()>> deferred_;
};

}  // namespace

void differentiate(Program& program, std::span<const ParameterGradient> parameters,
                   std::span<const GradientSeed> seeds) {
  Differentiator(program, parameters, seeds).run();
}

}  // namespace serval
