#include "plan/fit.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "base/text.h"
#include "plan/arena.h"
#include "program/op.h"
#include "program/print.h"

namespace serval {
namespace {

bool on(const DropList& drop, TensorId root) {
  return static_cast<size_t>(root) < drop.size() && drop[static_cast<size_t>(root)];
}

// What backward reads of a program that keeps all but the cheap tensors.
struct Kept {
  explicit Kept(const Program& program) : lean(recompute(program, drop_cheap(program))) {
    last_forward.assign(program.tensors.size(), -1);
    first_backward.assign(program.tensors.size(), -1);
    for (size_t c = 0; c < lean.calls.size(); ++c) {
      const OpCall& call = lean.calls[c];
      for_each_operand(call, [&](TensorId id) {
        const auto root = static_cast<size_t>(lean.root(id));
        if (root >= program.tensors.size()) return;
        if (call.phase == Phase::forward)
          last_forward[root] = static_cast<int64_t>(c);
        else if (first_backward[root] < 0)
          first_backward[root] = static_cast<int64_t>(c);
      });
    }
  }

  Program lean;
  std::vector<int64_t> last_forward, first_backward;  // positions in `lean` by root; -1: none
};

// Dropped whatever is chosen: the cheap tensors, and those that backward reads only to repeat others.
DropList always_dropped(const Program& program, const Kept& kept, const DropList& most) {
  DropList drop = drop_cheap(program);
  for (size_t id = 0; id < most.size(); ++id)
    drop[id] = drop[id] || (most[id] && kept.first_backward[id] < 0);
  return drop;
}

// A call that may be repeated, for the outputs that backward reads.
struct Candidate {
  size_t call = 0;
  std::vector<TensorId> outputs;
  int64_t bytes = 0;
  int64_t first = 0, last = 0;  // the calls of the lean program between which that memory would be free
};

std::vector<Candidate> candidates_of(const Program& program, const Kept& kept, const DropList& most,
                                     const DropList& always) {
  std::vector<Candidate> candidates;
  for (size_t c = 0; c < program.calls.size(); ++c) {
    const OpCall& call = program.calls[c];
    if (call.phase != Phase::forward) continue;
    Candidate candidate{.call = c, .outputs = {}, .first = INT64_MAX};
    for (const TensorId id : call.outputs) {
      if (id == kNone || !on(most, id) || on(always, id)) continue;
      const auto index = static_cast<size_t>(id);
      candidate.outputs.push_back(id);
      candidate.bytes += program.tensor(id).span_bytes();
      candidate.first = std::min(candidate.first, kept.last_forward[index] + 1);
      candidate.last = std::max(candidate.last, kept.first_backward[index] - 1);
    }
    if (!candidate.outputs.empty()) candidates.push_back(std::move(candidate));
  }
  return candidates;
}

// Puts the candidates into the order in which they are dropped as memory gets tighter. The order does not
// depend on the budget: a tighter one only takes more of it.
class Ordering {
 public:
  Ordering(const Program& program, const Kept& kept, std::vector<Candidate> candidates, DropList always,
           const DeviceRates& rates)
      : program_(program), candidates_(std::move(candidates)), dropped_(std::move(always)) {
    producer_.assign(program.tensors.size(), -1);
    for (size_t c = 0; c < program.calls.size(); ++c) {
      const Cost cost = cost_of(CallView{program, program.calls[c]});
      seconds_.push_back(std::max(cost.flops / rates.flops_per_second, cost.bytes / rates.bytes_per_second));
      for (const TensorId id : program.calls[c].outputs)
        if (id != kNone && producer_[static_cast<size_t>(program.root(id))] < 0)
          producer_[static_cast<size_t>(program.root(id))] = static_cast<int64_t>(c);
    }
    repeated_.assign(program.calls.size(), false);
    for (size_t c = 0; c < program.calls.size(); ++c)
      if (program.calls[c].phase != Phase::forward)
        for (const TensorId id : program.calls[c].inputs)
          if (id != kNone) repeat(program.root(id), nullptr);
    find_alive(kept.lean);
  }

  std::vector<Candidate> run() {
    std::vector<Candidate> order;
    while (!candidates_.empty()) {
      const size_t best = next();
      order.push_back(candidates_[best]);
      const Candidate& chosen = order.back();
      candidates_.erase(candidates_.begin() + static_cast<std::ptrdiff_t>(best));
      for (const TensorId id : chosen.outputs) dropped_[static_cast<size_t>(id)] = true;
      for (const TensorId id : chosen.outputs) repeat(id, nullptr);
      for (int64_t at = chosen.first; at <= chosen.last; ++at)
        alive_[static_cast<size_t>(at)] -= chosen.bytes;
    }
    return order;
  }

 private:
  // The bytes that are alive at each call while nothing but the cheap tensors is dropped.
  void find_alive(const Program& lean) {
    alive_.assign(lean.calls.size() + 1, 0);
    const auto lives = lifetimes(lean);
    for (size_t id = 0; id < lean.tensors.size(); ++id) {
      const TensorDecl& decl = lean.tensors[id];
      if (decl.kind != TensorKind::temporary || decl.base != kNone || lives[id].first < 0) continue;
      alive_[static_cast<size_t>(lives[id].first)] += decl.span_bytes();
      alive_[static_cast<size_t>(lives[id].last) + 1] -= decl.span_bytes();
    }
    alive_.pop_back();
    int64_t sum = 0;
    for (size_t c = 0; c < alive_.size(); ++c) {
      sum += alive_[c];
      alive_[c] = sum + workspace_of(CallView{lean, lean.calls[c]});
    }
  }

  // The calls that give a dropped tensor again, and what they read, and so on. Appended to `calls`, or marked
  // as repeated where that is null.
  void repeat(TensorId root, std::vector<size_t>* calls) {
    if (!on(dropped_, root) || producer_[static_cast<size_t>(root)] < 0) return;
    if (has_short_way(program_.calls[static_cast<size_t>(producer_[static_cast<size_t>(root)])], root))
      return;
    repeat_call(static_cast<size_t>(producer_[static_cast<size_t>(root)]), calls);
  }
  // Such a one reads another output of the call that is kept, and costs next to nothing.
  bool has_short_way(const OpCall& call, TensorId root) const {
    return call.op->recompute != nullptr &&
           std::any_of(call.outputs.begin(), call.outputs.end(),
                       [&](TensorId id) { return id != kNone && id != root && !on(dropped_, id); });
  }
  void repeat_call(size_t call, std::vector<size_t>* calls) {
    if (repeated_[call]) return;
    if (calls == nullptr)
      repeated_[call] = true;
    else if (std::find(calls->begin(), calls->end(), call) == calls->end())
      calls->push_back(call);
    else
      return;
    for (const TensorId id : program_.calls[call].inputs)
      if (id != kNone) repeat(program_.root(id), calls);
  }

  double price(const Candidate& candidate) {
    std::vector<size_t> calls;
    repeat_call(candidate.call, &calls);
    double seconds = 0;
    for (const size_t call : calls) seconds += seconds_[call];
    return seconds;
  }

  // Of those that lower the peak the cheapest a byte. Of about equal ones the largest, for few large calls
  // are faster than many small ones; then the one whose memory is free for longest.
  size_t next() {
    const int64_t peak = std::max_element(alive_.begin(), alive_.end()) - alive_.begin();
    const auto helps = [&](const Candidate& c) { return c.first <= peak && peak <= c.last; };
    const bool any = std::any_of(candidates_.begin(), candidates_.end(), helps);
    std::vector<double> prices(candidates_.size(), std::numeric_limits<double>::infinity());
    for (size_t i = 0; i < candidates_.size(); ++i)
      if (!any || helps(candidates_[i]))
        prices[i] = price(candidates_[i]) / static_cast<double>(std::max<int64_t>(candidates_[i].bytes, 1));
    const double limit = *std::min_element(prices.begin(), prices.end()) * 1.01;
    size_t best = candidates_.size();
    const auto before = [&](const Candidate& a, const Candidate& b) {
      return a.bytes != b.bytes ? a.bytes > b.bytes : a.last - a.first > b.last - b.first;
    };
    for (size_t i = 0; i < candidates_.size(); ++i)
      if (prices[i] <= limit && (best == candidates_.size() || before(candidates_[i], candidates_[best])))
        best = i;
    return best;
  }

  const Program& program_;
  std::vector<Candidate> candidates_;  // not yet taken
  DropList dropped_;
  std::vector<int64_t> producer_;  // by root
  std::vector<double> seconds_;    // by call
  std::vector<bool> repeated_;     // by call
  std::vector<int64_t> alive_;     // by call of the lean program
};

}  // namespace

DeviceRates nominal_rates(DeviceKind device) {
  if (device == DeviceKind::cuda) return {.flops_per_second = 4e14, .bytes_per_second = 2.5e12};
  return {.flops_per_second = 4e11, .bytes_per_second = 2e10};
}

DropList drop_list(const Program& program, const RecomputeChoice& choice) {
  const DropList most = drop_all_but_block_inputs(program);
  if (choice.blocks) return most;
  DropList drop = always_dropped(program, Kept(program), most);
  const std::set<std::string> names(choice.calls.begin(), choice.calls.end());
  for (const OpCall& call : program.calls)
    if (call.phase == Phase::forward && names.contains(call.name))
      for (const TensorId id : call.outputs)
        if (id != kNone && on(most, id)) drop[static_cast<size_t>(id)] = true;
  return drop;
}

RecomputeChoice fit_recompute(const Program& program, int64_t budget, const DeviceRates& rates,
                              const FinishProgram& finish) {
  const Kept kept(program);
  const DropList most = drop_all_but_block_inputs(program), always = always_dropped(program, kept, most);
  const std::vector<Candidate> order =
      Ordering(program, kept, candidates_of(program, kept, most, always), always, rates).run();

  // The choice that takes the first `count` candidates.
  const auto evaluate = [&](RecomputeChoice choice, const DropList& drop) {
    const Program finished = finish(recompute(program, drop));
    choice.arena_bytes = plan_arena(finished).bytes;
    choice.extra_flops = recomputed_flops(finished);
    choice.fits = choice.arena_bytes <= budget;
    return choice;
  };
  const auto take = [&](size_t count) {
    RecomputeChoice choice;
    DropList drop = always;
    for (size_t i = 0; i < count; ++i) {
      choice.calls.push_back(program.calls[order[i].call].name);
      for (const TensorId id : order[i].outputs) drop[static_cast<size_t>(id)] = true;
    }
    return evaluate(std::move(choice), drop);
  };

  RecomputeChoice best = take(0);
  if (best.fits) return best;
  const RecomputeChoice blocks = evaluate({.blocks = true, .calls = {}}, most);
  best = take(order.size());
  size_t too_few = 0, enough = order.size();
  while (best.fits && enough - too_few > 1) {
    const size_t middle = too_few + (enough - too_few) / 2;
    RecomputeChoice choice = take(middle);
    (choice.fits ? enough : too_few) = middle;
    if (choice.fits) best = std::move(choice);
  }
  if (!best.fits) return blocks.fits || blocks.arena_bytes <= best.arena_bytes ? blocks : best;
  return blocks.fits && blocks.extra_flops <= best.extra_flops ? blocks : best;
}

double recomputed_flops(const Program& program) {
  double flops = 0;
  for (const OpCall& call : program.calls)
    if (call.recomputed) flops += cost_of(CallView{program, call}).flops;
  return flops;
}

std::string describe_recompute(const Program& program) {
  std::set<int64_t> layers;
  std::vector<std::string> names;  // in the order of the calls
  std::map<std::string, std::set<int64_t>> again;
  double flops = 0;
  for (const OpCall& call : program.calls) {
    const auto layer = layer_of(call.name);
    if (layer) layers.insert(*layer);
    if (!call.recomputed) {
      flops += cost_of(CallView{program, call}).flops;
      continue;
    }
    if (!layer || call.op->cheap_outputs != 0) continue;
    const std::string within = name_within_layer(call.name);
    if (again[within].empty()) names.push_back(within);
    again[within].insert(*layer);
  }
  std::string text;
  for (const std::string& name : names)
    text += fmt::format("{}{} in {} of {} layers", text.empty() ? "" : ", ", name, again[name].size(),
                        layers.size());
  if (text.empty()) text = "nothing but norms, RoPE and activations";
  return fmt::format("{}; +{:.1f} % FLOPs", text, flops > 0 ? 100 * recomputed_flops(program) / flops : 0.0);
}

}  // namespace serval
