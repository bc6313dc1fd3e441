#include "generate/generator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "base/philox.h"
#include "models/decoder.h"
#include "ops/argmax/argmax.h"
#include "ops/head/head.h"
#include "plan/arena.h"
#include "plan/side_columns.h"

namespace serval {

Generator::Generator(GeneratorOptions options, Device& device)
    : options_(std::move(options)), states_(device) {
  SERVAL_CHECK(options_.sequences > 0 && options_.capacity > 0);
  const int64_t sequences = options_.sequences;
  const int64_t piece = std::clamp<int64_t>(options_.prefill_tokens, 1, sequences * options_.capacity);
  std::vector<int64_t> sizes = {sequences};
  if (piece > sequences) sizes.push_back(piece);
  std::vector<Program> programs;
  std::vector<ArenaPlan> plans;
  int64_t bytes = 0;
  for (const int64_t tokens : sizes) {
    programs.push_back(build(tokens == sequences ? "decode" : "prefill", tokens));
    plans.push_back(plan_arena(programs.back()));
    bytes = std::max(bytes, plans.back().bytes);
    states_.declare(programs.back());
  }
  states_.allocate();
  arena_ = Buffer(device, bytes);
  for (size_t i = 0; i < sizes.size(); ++i)
    executors_.push_back({sizes[i], std::make_unique<Executor>(std::move(programs[i]), std::move(plans[i]),
                                                               arena_.data(), states_)});
  cached_.resize(static_cast<size_t>(sequences));
}

Program Generator::build(const std::string& name, int64_t tokens) {
  Program program{.name = name, .device = states_.device().kind()};
  ProgramBuilder b(program);
  NetworkOptions frozen = options_.network;
  frozen.gradients = frozen.dropout = false;
  Network net(b, table_, frozen);
  const int64_t sequences = options_.sequences;
  const TensorId num_tokens = b.input("num_tokens", DType::i32, {1});
  const TensorId num_rows = b.input("num_rows", DType::i32, {1});
  DecoderInputs in;
  in.input_ids = b.input("input_ids", DType::i32, {tokens}, num_tokens);
  in.position_ids = b.input("position_ids", DType::i32, {tokens}, num_tokens);
  in.cu_seqlens = b.input("cu_seqlens", DType::i32, {sequences + 1});
  in.past_lengths = b.input("past_lengths", DType::i32, {sequences});
  in.sequences = sequences;
  in.cache_capacity = options_.capacity;
  const TensorId rows = b.input("rows", DType::i32, {sequences}, num_rows);
  const TensorId hidden = decoder_forward(net, options_.model, in);
  const DType wide = frozen.compute == DType::f64 ? DType::f64 : DType::f32;
  // States, for the host reads them; as many rows of them as were asked for are valid.
  const TensorId logits = b.state("logits", wide, {sequences, options_.model.vocab_size}, Role::cache);
  const TensorId likeliest = b.state("likeliest", DType::i32, {sequences}, Role::cache);
  program.tensor(logits).count = program.tensor(likeliest).count = num_rows;
  ops::logits(b, "lm_head", hidden, decoder_head_weight(net, options_.model), rows, logits);
  ops::argmax_rows(b, "likeliest", logits, likeliest);
  return add_side_columns(std::move(program));
}

void Generator::set_check_nan(bool on) {
  for (const SizedExecutor& sized : executors_) sized.executor->set_check_nan(on);
}

void Generator::append(std::span<const Piece> pieces) {
  std::vector<int32_t> ids, positions, rows, cu_seqlens = {0}, past_lengths;
  rows_.clear();
  size_t next = 0;
  for (size_t sequence = 0; sequence < cached_.size(); ++sequence) {
    const auto past = static_cast<int32_t>(cached_[sequence].size());
    past_lengths.push_back(past);
    // A sequence without a piece has no tokens in this run.
    if (next < pieces.size() && pieces[next].sequence == sequence) {
      const Piece& piece = pieces[next++];
      SERVAL_CHECK(!piece.ids.empty() && past + static_cast<int64_t>(piece.ids.size()) <= options_.capacity);
      ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
      positions.resize(ids.size());
      std::iota(positions.end() - static_cast<int64_t>(piece.ids.size()), positions.end(), past);
      if (piece.wanted) {
        rows.push_back(static_cast<int32_t>(ids.size()) - 1);
        rows_.push_back(sequence);
      }
    }
    cu_seqlens.push_back(static_cast<int32_t>(ids.size()));
  }
  SERVAL_CHECK(next == pieces.size());
  const auto count = static_cast<int64_t>(ids.size());
  const auto fitting = std::find_if(executors_.begin(), executors_.end(),
                                    [&](const SizedExecutor& sized) { return sized.tokens >= count; });
  SERVAL_CHECK(fitting != executors_.end());
  Executor& executor = *fitting->executor;
  executor.set_input("num_tokens", std::vector<int32_t>{static_cast<int32_t>(count)});
  executor.set_input("num_rows", std::vector<int32_t>{static_cast<int32_t>(rows.size())});
  executor.set_input("input_ids", ids);
  executor.set_input("position_ids", positions);
  executor.set_input("cu_seqlens", cu_seqlens);
  executor.set_input("past_lengths", past_lengths);
  executor.set_input("rows", rows);
  executor.run();
  for (const Piece& piece : pieces)
    cached_[piece.sequence].insert(cached_[piece.sequence].end(), piece.ids.begin(), piece.ids.end());
  // The second token on is one call of the driver.
  if (options_.graphs && &executor == &decoder() && !executor.captured()) executor.capture();
}

void Generator::check_prompt(std::span<const int32_t> prompt) const {
  if (prompt.empty()) fail("the prompt is empty and the tokenizer adds no token that could begin a text");
  if (static_cast<int64_t>(prompt.size()) > options_.capacity)
    fail("the prompt has {} tokens, more than the {} that fit", prompt.size(), options_.capacity);
  for (const int32_t id : prompt)
    if (id < 0 || id >= options_.model.vocab_size)
      fail(
          "the tokenizer gives the id {}, but the model's vocabulary has {} entries; they do not belong "
          "together",
          id, options_.model.vocab_size);
}

void Generator::read_prompts(std::span<const Reading> prompts, const std::function<void()>& on_rows) {
  for (const auto& [sequence, prompt] : prompts) {
    // The last token is always run again: its logits are wanted.
    std::vector<int32_t>& cached = cached_[sequence];
    size_t shared = 0;
    while (shared < cached.size() && shared + 1 < prompt.size() && cached[shared] == prompt[shared]) ++shared;
    cached.resize(shared);
  }
  const auto rest = [&](const Reading& r) { return r.prompt.subspan(cached_[r.sequence].size()); };
  for (size_t first = 0; first < prompts.size();) {
    auto room = static_cast<size_t>(executors_.back().tokens);
    std::vector<Piece> pieces;
    for (size_t i = first; i < prompts.size() && room > 0; ++i) {
      const std::span<const int32_t> left = rest(prompts[i]);
      const size_t size = std::min(left.size(), room);
      pieces.push_back({prompts[i].sequence, left.first(size), size == left.size()});
      room -= size;
    }
    append(pieces);
    while (first < prompts.size() && rest(prompts[first]).empty()) ++first;
    if (!rows_.empty()) on_rows();
  }
}

std::vector<float> Generator::logits_after(std::span<const int32_t> ids) {
  check_prompt(ids);
  const Reading reading{0, ids};
  read_prompts(std::span(&reading, 1), [&] { read_logits(); });
  return logits_;
}

void Generator::fail_nan(size_t row) const {
  fail("the model gives NaN for token {}; --check-nan names the op where it began",
       cached_[rows_[row]].size() + 1);
}

void Generator::read_logits() {
  const int64_t vocab = options_.model.vocab_size, count = static_cast<int64_t>(rows_.size()) * vocab;
  logits_.resize(static_cast<size_t>(count));
  states_.with_values("logits", 0, count, [&](const void* values) {
    convert_elements(values, states_.state("logits").dtype, logits_.data(), DType::f32, count);
  });
  const auto nan = std::find_if(logits_.begin(), logits_.end(), [](float x) { return std::isnan(x); });
  if (nan != logits_.end()) fail_nan(static_cast<size_t>((nan - logits_.begin()) / vocab));
}

std::vector<int32_t> Generator::next_tokens(std::span<const Draw> draws, const Sampling& sampling) {
  std::vector<int32_t> tokens(rows_.size());
  if (sampling.temperature <= 0) {
    states_.with_values("likeliest", 0, static_cast<int64_t>(tokens.size()), [&](const void* values) {
      std::memcpy(tokens.data(), values, tokens.size() * sizeof(int32_t));
    });
    for (size_t row = 0; row < tokens.size(); ++row)
      if (tokens[row] < 0) fail_nan(row);
    return tokens;
  }
  read_logits();
  const auto vocab = static_cast<size_t>(options_.model.vocab_size);
  parallel_for(0, static_cast<int64_t>(tokens.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto row = static_cast<size_t>(begin); row < static_cast<size_t>(end); ++row)
      tokens[row] = sample_token(std::span(logits_).subspan(row * vocab, vocab), sampling, draws[row].step,
                                 draws[row].prompt);
  });
  return tokens;
}

// Which sequence answers which prompt.
class Generator::Batch {
 public:
  Batch(Generator& generator, std::vector<std::span<const int32_t>> prompts, const Sampling& sampling,
        const std::function<bool(size_t, int32_t)>& on_token,
        const std::function<void(size_t, StopReason)>& on_end)
      : generator_(generator),
        prompts_(std::move(prompts)),
        sampling_(sampling),
        on_token_(on_token),
        on_end_(on_end),
        answers_(generator.cached_.size()) {
    for (const auto& prompt : prompts_) generator_.check_prompt(prompt);
  }

  void run() {
    if (sampling_.max_new_tokens <= 0) {
      for (size_t prompt = 0; prompt < prompts_.size(); ++prompt) on_end_(prompt, StopReason::max_new_tokens);
      return;
    }
    for (admit(); live_ > 0; admit()) decode();
  }

 private:
  struct Answer {
    bool live = false;
    size_t prompt = 0;
    int64_t step = 0;   // tokens that were drawn
    int32_t token = 0;  // the last one
  };

  // Until every sequence has an answer to go on with, or no prompt is left.
  void admit() {
    while (true) {
      std::vector<Reading> readings;
      for (size_t sequence = 0; sequence < answers_.size() && next_ < prompts_.size(); ++sequence) {
        if (answers_[sequence].live) continue;
        answers_[sequence] = {.live = true, .prompt = next_};
        readings.push_back({sequence, prompts_[next_++]});
        ++live_;
      }
      if (readings.empty()) return;
      generator_.read_prompts(readings, [&] { take_tokens(); });
    }
  }

  void decode() {
    std::vector<Piece> pieces;
    for (size_t sequence = 0; sequence < answers_.size(); ++sequence)
      if (answers_[sequence].live)
        pieces.push_back({sequence, std::span(&answers_[sequence].token, 1), true});
    generator_.append(pieces);
    take_tokens();
  }

  void take_tokens() {
    std::vector<Draw> draws;
    for (const size_t sequence : generator_.rows_)
      draws.push_back({answers_[sequence].step, static_cast<int64_t>(answers_[sequence].prompt)});
    const std::vector<int32_t> tokens = generator_.next_tokens(draws, sampling_);
    for (size_t row = 0; row < tokens.size(); ++row) {
      const size_t sequence = generator_.rows_[row];
      Answer& answer = answers_[sequence];
      answer.token = tokens[row];
      ++answer.step;
      const auto reason = end_of(sequence);
      if (!reason) continue;
      answer.live = false;
      --live_;
      on_end_(answer.prompt, *reason);
    }
  }

  std::optional<StopReason> end_of(size_t sequence) const {
    const Answer& answer = answers_[sequence];
    const std::vector<int32_t>& stops = sampling_.stop_ids;
    if (std::find(stops.begin(), stops.end(), answer.token) != stops.end()) return StopReason::stop_token;
    if (!on_token_(answer.prompt, answer.token)) return StopReason::caller;
    if (answer.step == sampling_.max_new_tokens) return StopReason::max_new_tokens;
    if (static_cast<int64_t>(generator_.cached_[sequence].size()) >= generator_.options_.capacity)
      return StopReason::capacity;
    return std::nullopt;
  }

  Generator& generator_;
  std::vector<std::span<const int32_t>> prompts_;
  const Sampling& sampling_;
  const std::function<bool(size_t, int32_t)>& on_token_;
  const std::function<void(size_t, StopReason)>& on_end_;
  std::vector<Answer> answers_;  // by sequence
  size_t next_ = 0, live_ = 0;
};

void Generator::generate_all(std::span<const std::vector<int32_t>> prompts, const Sampling& sampling,
                             const std::function<bool(size_t, int32_t)>& on_token,
                             const std::function<void(size_t, StopReason)>& on_end) {
  Batch(*this, {prompts.begin(), prompts.end()}, sampling, on_token, on_end).run();
}

StopReason Generator::generate(std::span<const int32_t> prompt, const Sampling& sampling,
                               const std::function<bool(int32_t)>& on_token) {
  StopReason reason = StopReason::max_new_tokens;
  Batch(
      *this, {prompt}, sampling, [&](size_t, int32_t id) { return on_token(id); },
      [&](size_t, StopReason ended) { reason = ended; })
      .run();
  return reason;
}

int32_t sample_token(std::span<const float> logits, const Sampling& sampling, int64_t step, int64_t prompt) {
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
  const PhiloxKey key = philox_key(sampling.seed, "sample", static_cast<uint32_t>(prompt), 0);
  const uint32_t word = philox_u32(key, static_cast<uint64_t>(step));
  double draw = (static_cast<double>(word) + 0.5) * 0x1p-32 * kept;
  for (size_t i = 0; i < count; ++i) {
    draw -= weights[i];
    if (draw <= 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace serval
