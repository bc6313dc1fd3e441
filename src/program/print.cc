#include "program/print.h"

#include <fmt/core.h>

#include <optional>

#include "base/text.h"
#include "program/op.h"

namespace serval {

std::optional<int64_t> layer_of(const std::string& name) {
  const size_t at = name.find("layers.");
  if (at == std::string::npos) return std::nullopt;
  size_t digit = at + 7;
  int64_t value = 0;
  if (digit >= name.size() || name[digit] < '0' || name[digit] > '9') return std::nullopt;
  for (; digit < name.size() && name[digit] >= '0' && name[digit] <= '9'; ++digit)
    value = value * 10 + (name[digit] - '0');
  return value;
}

std::string name_within_layer(const std::string& name) {
  const auto layer = layer_of(name);
  if (!layer) return name;
  const size_t begin = name.find("layers.") + 7 + std::to_string(*layer).size() + 1;
  return begin < name.size() ? name.substr(begin) : "";
}

namespace {

// Layer numbers relative to `layer`, so that equal layers print equally.
std::string relative(const std::string& name, std::optional<int64_t> layer) {
  const auto own = layer_of(name);
  if (!own || !layer) return name;
  const size_t at = name.find("layers.") + 7, end = at + std::to_string(*own).size();
  const int64_t offset = *own - *layer;
  return name.substr(0, at) +
         (offset == 0  ? "i"
          : offset > 0 ? fmt::format("i+{}", offset)
                       : fmt::format("i{}", offset)) +
         name.substr(end);
}

std::string operands(const Program& program, const std::vector<TensorId>& ids, std::optional<int64_t> layer) {
  std::string text;
  for (const TensorId id : ids) {
    if (id == kNone) continue;
    if (!text.empty()) text += ", ";
    if (text.size() > 240) return text + "...";
    const auto& decl = program.tensor(id);
    text += fmt::format("{} {}{}", relative(decl.name, layer), name_of(decl.dtype), to_string(decl.shape));
  }
  return text;
}

struct Line {
  std::optional<int64_t> layer;
  Phase phase;
  std::string text;
  Cost cost;
};

Line line_of(const Program& program, const OpCall& call) {
  const auto layer = layer_of(call.name);
  const Cost cost = cost_of(CallView{program, call});
  std::string text = fmt::format("  {:<40} {:<20}", relative(call.name, layer),
                                 std::string(call.op->name) + (call.entry == EntryKind::start  ? " start"
                                                               : call.entry == EntryKind::wait ? " wait"
                                                               : call.recomputed               ? " again"
                                                                                               : ""));
  text += " (" + operands(program, call.inputs, layer) + ")";
  if (!call.outputs.empty()) text += " -> " + operands(program, call.outputs, layer);
  if (!call.updates.empty()) text += "  updates " + operands(program, call.updates, layer);
  if (const auto attributes = call.attributes.to_string(); !attributes.empty()) text += "  " + attributes;
  text += fmt::format("  {}", human_bytes(static_cast<int64_t>(cost.bytes)));
  if (cost.flops > 0) text += fmt::format("  {}FLOP", human_count(cost.flops));
  return {layer, call.phase, std::move(text), cost};
}

}  // namespace

std::string print_program(const Program& program) {
  struct Block {
    std::optional<int64_t> first, last;
    Phase phase;
    std::string text;
  };
  std::vector<Block> blocks;
  Cost total;
  for (const auto& call : program.calls) {
    Line line = line_of(program, call);
    total.flops += line.cost.flops;
    total.bytes += line.cost.bytes;
    if (blocks.empty() || blocks.back().first != line.layer || blocks.back().phase != line.phase)
      blocks.push_back({line.layer, line.layer, line.phase, {}});
    blocks.back().text += line.text + "\n";
  }
  static constexpr const char* phases[] = {"forward", "backward", "update"};
  std::string out =
      fmt::format("program {}: {} calls, {}FLOP, {} touched\n", program.name, program.calls.size(),
                  human_count(total.flops), human_bytes(static_cast<int64_t>(total.bytes)));
  for (size_t i = 0; i < blocks.size();) {
    size_t j = i;
    while (j + 1 < blocks.size() && blocks[i].first && blocks[j + 1].text == blocks[i].text) ++j;
    if (blocks[i].first && j > i)
      out += fmt::format("{}, layers {} to {} ({} alike):\n", phases[static_cast<int>(blocks[i].phase)],
                         *blocks[i].first, *blocks[j].first, j - i + 1);
    else if (blocks[i].first)
      out += fmt::format("{}, layer {}:\n", phases[static_cast<int>(blocks[i].phase)], *blocks[i].first);
    else
      out += fmt::format("{}:\n", phases[static_cast<int>(blocks[i].phase)]);
    out += blocks[i].text;
    i = j + 1;
  }
  return out;
}

}  // namespace serval
