#include "generate/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/philox.h"
#include "models/decoder.h"
#include "ops/head/head.h"
#include "plan/arena.h"
#include "plan/side_columns.h"

namespace serval {

Generator::Generator(GeneratorOptions options, Device& device)
    : options_(std::move(options)), states_(device) {
  options_.prefill_tokens = std::max<int64_t>(1, std::min(options_.prefill_tokens, options_.capacity));
  Program prefill = build("prefill", options_.prefill_tokens), decode = build("decode", 1);
  ArenaPlan prefill_plan = plan_arena(prefill), decode_plan = plan_arena(decode);
  states_.declare(prefill);
  states_.declare(decode);
  states_.allocate();
  arena_ = Buffer(device, std::max(prefill_plan.bytes, decode_plan.bytes));
  prefill_ = std::make_unique<Executor>(std::move(prefill), std::move(prefill_plan), arena_.data(), states_);
  decode_ = std::make_unique<Executor>(std::move(decode), std::move(decode_plan), arena_.data(), states_);
  logits_.resize(static_cast<size_t>(options_.model.vocab_size));
}

Program Generator::build(const std::string& name, int64_t tokens) {
  Program program{.name = name, .device = states_.device().kind()};
  ProgramBuilder b(program);
  NetworkOptions frozen = options_.network;
  frozen.gradients = frozen.dropout = false;
  Network net(b, table_, frozen);
  const TensorId num_tokens = b.input("num_tokens", DType::i32, {1});
  DecoderInputs in;
  in.input_ids = b.input("input_ids", DType::i32, {tokens}, num_tokens);
  in.position_ids = b.input("position_ids", DType::i32, {tokens}, num_tokens);
  in.cu_seqlens = b.input("cu_seqlens", DType::i32, {2});
  in.past_lengths = b.input("past_lengths", DType::i32, {1});
  in.sequences = 1;
  in.cache_capacity = options_.capacity;
  const TensorId last_row = b.input("last_row", DType::i32, {1});
  const TensorId hidden = decoder_forward(net, options_.model, in);
  const DType wide = frozen.compute == DType::f64 ? DType::f64 : DType::f32;
  const TensorId target = b.state("logits", wide, {1, options_.model.vocab_size}, Role::cache);
  ops::logits(b, "lm_head", hidden, decoder_head_weight(net, options_.model), last_row, target);
  return add_side_columns(std::move(program));
}

void Generator::set_check_nan(bool on) {
  prefill_->set_check_nan(on);
  decode_->set_check_nan(on);
}

void Generator::append(std::span<const int32_t> ids) {
  Executor& executor = ids.size() == 1 ? *decode_ : *prefill_;
  const int32_t count = static_cast<int32_t>(ids.size()), past = static_cast<int32_t>(cached_.size());
  SERVAL_CHECK(count > 0 && past + count <= options_.capacity);
  std::vector<int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), past);
  executor.set_input("num_tokens", std::vector<int32_t>{count});
  executor.set_input("input_ids", ids);
  executor.set_input("position_ids", positions);
  executor.set_input("cu_seqlens", std::vector<int32_t>{0, count});
  executor.set_input("past_lengths", std::vector<int32_t>{past});
  executor.set_input("last_row", std::vector<int32_t>{count - 1});
  executor.run();
  // The second token on is one call of the driver.
  if (&executor == decode_.get() && !decode_->captured()) decode_->capture();
  cached_.insert(cached_.end(), ids.begin(), ids.end());
}

void Generator::read_prompt(std::span<const int32_t> prompt) {
  if (prompt.empty()) fail("the prompt is empty and the tokenizer adds no token that could begin a text");
  if (static_cast<int64_t>(prompt.size()) > options_.capacity)
    fail("the prompt has {} tokens, more than the {} that fit", prompt.size(), options_.capacity);
  for (const int32_t id : prompt)
    if (id < 0 || id >= options_.model.vocab_size)
      fail(
          "the tokenizer gives the id {}, but the model's vocabulary has {} entries; they do not belong "
          "together",
          id, options_.model.vocab_size);
  // The last token is always run again: its logits are wanted.
  size_t shared = 0;
  while (shared < cached_.size() && shared + 1 < prompt.size() && cached_[shared] == prompt[shared]) ++shared;
  cached_.resize(shared);
  for (size_t at = shared; at < prompt.size();) {
    const size_t size = std::min(prompt.size() - at, static_cast<size_t>(options_.prefill_tokens));
    append(prompt.subspan(at, size));
    at += size;
  }
}

std::vector<float> Generator::logits_after(std::span<const int32_t> ids) {
  read_prompt(ids);
  read_logits();
  return logits_;
}

void Generator::read_logits() {
  const auto& state = states_.state("logits");
  std::vector<std::byte> raw(static_cast<size_t>(state.bytes()));
  states_.read("logits", raw.data());
  convert_elements(raw.data(), state.dtype, logits_.data(), DType::f32, state.shape.elements());
  if (std::any_of(logits_.begin(), logits_.end(), [](float x) { return std::isnan(x); }))
    fail("the model gives NaN for token {}; --check-nan names the op where it began", cached_.size() + 1);
}

StopReason Generator::generate(std::span<const int32_t> prompt, const Sampling& sampling,
                               const std::function<bool(int32_t)>& on_token) {
  logits_after(prompt);
  for (int64_t step = 0; step < sampling.max_new_tokens; ++step) {
    const int32_t id = sample_token(logits_, sampling, step);
    if (std::find(sampling.stop_ids.begin(), sampling.stop_ids.end(), id) != sampling.stop_ids.end())
      return StopReason::stop_token;
    if (!on_token(id)) return StopReason::caller;
    if (step + 1 == sampling.max_new_tokens) break;
    if (static_cast<int64_t>(cached_.size()) >= options_.capacity) return StopReason::capacity;
    append(std::span(&id, 1));
    read_logits();
  }
  return StopReason::max_new_tokens;
}

int32_t sample_token(std::span<const float> logits, const Sampling& sampling, int64_t step) {
  if (sampling.temperature <= 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t keep =
      sampling.top_k > 0 ? std::min(order.size(), static_cast<size_t>(sampling.top_k)) : order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(keep), order.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  order.resize(keep);
  const double most = static_cast<double>(logits[static_cast<size_t>(order[0])]);
  std::vector<double> weights(keep);
  double sum = 0;
  for (size_t i = 0; i < keep; ++i)
    sum += weights[i] =
        std::exp((static_cast<double>(logits[static_cast<size_t>(order[i])]) - most) / sampling.temperature);
  // The smallest set of most likely tokens whose share reaches top_p.
  double kept = 0;
  size_t count = 0;
  while (count < keep && (count == 0 || kept < sampling.top_p * sum)) kept += weights[count++];
  const uint32_t word = philox_u32(philox_key(sampling.seed, "sample", 0, 0), static_cast<uint64_t>(step));
  double draw = (static_cast<double>(word) + 0.5) * 0x1p-32 * kept;
  for (size_t i = 0; i < count; ++i) {
    draw -= weights[i];
    if (draw <= 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace serval
