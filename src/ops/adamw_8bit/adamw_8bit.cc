#include "ops/adamw_8bit/adamw_8bit.h"

#include "base/error.h"
#include "ops/common/kernel.h"

namespace serval {
SERVAL_CPU_KERNEL(adamw_8bit_step)

namespace ops {
namespace {

// inputs: hyper, stats, random?; updates: parameter, codes and absmax of m, those of v, gradient of each
// tensor
constexpr size_t kUpdates = 6;

std::vector<OutputSpec> infer(const CallView& v) {
  SERVAL_CHECK(v.call.updates.size() % kUpdates == 0, "'{}'", v.call.name);
  check_adamw_inputs(v, v.call.updates.size() / kUpdates);
  for (size_t first = 0; first < v.call.updates.size(); first += kUpdates) {
    const TensorDecl &parameter = v.update(first), &gradient = v.update(first + 5);
    const int64_t blocks = moment_blocks(parameter.shape.elements());
    const auto is = [&](size_t i, DType dtype, int64_t elements) {
      return v.update(first + i).dtype == dtype && v.update(first + i).shape.elements() == elements;
    };
    SERVAL_CHECK((parameter.dtype == DType::f32 || parameter.dtype == DType::bf16) &&
                     gradient.dtype == DType::f32 && gradient.shape == parameter.shape &&
                     is(1, DType::u8, blocks * kMomentBlock) && is(2, DType::f32, blocks) &&
                     is(3, DType::u8, blocks * kMomentBlock) && is(4, DType::f32, blocks),
                 "'{}' of '{}'", v.call.name, parameter.name);
  }
  return {};
}

// Everything is read and written.
Cost cost(const CallView& v) {
  Cost cost;
  for (size_t i = 0; i < v.call.updates.size(); ++i) {
    const TensorDecl& decl = v.update(i);
    const auto elements = static_cast<double>(decl.shape.elements());
    cost.bytes += 2 * elements * static_cast<double>(size_of(decl.dtype));
    if (i % kUpdates == 0) cost.flops += 20 * elements;
  }
  return cost;
}

// The factors of one step.
int64_t cuda_workspace(const CallView&) {
  return 64;
}

}  // namespace

const Op adamw_8bit_op = {.name = "adamw_8bit",
                          .infer = infer,
                          .cost = cost,
                          .cuda_workspace = cuda_workspace,
                          .run_cpu = run_adamw_8bit_step};

void adamw_8bit(ProgramBuilder& b, const std::string& name, const std::vector<AdamW8bitOperands>& tensors,
                TensorId hyper, TensorId stats, const AdamWSettings& settings, TensorId random) {
  std::vector<TensorId> updates;
  std::vector<int64_t> streams;
  updates.reserve(tensors.size() * kUpdates);
  for (const AdamW8bitOperands& o : tensors) {
    updates.insert(updates.end(), {o.parameter, o.m_codes, o.m_absmax, o.v_codes, o.v_absmax, o.gradient});
    streams.push_back(static_cast<int64_t>(o.stream));
  }
  Attributes attributes = adamw_attributes(settings);
  if (random != kNone) attributes.set("streams", streams);
  b.call(adamw_8bit_op, name, adamw_inputs(hyper, stats, random), attributes, updates);
}

}  // namespace ops
}  // namespace serval
