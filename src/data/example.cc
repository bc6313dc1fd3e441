#include "data/example.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "data/mask.h"
#include "data/packing.h"

namespace serval {
namespace {

// The weights of tokens as a mask, and beside it where they do not all count alike.
void set_weights(TokenizedRow& row, TokenWeights weights) {
  row.trained.assign(weights.size(), false);
  bool alike = true;
  for (size_t i = 0; i < weights.size(); ++i) {
    row.trained[i] = weights[i] > 0;
    alike = alike && (weights[i] == 0 || weights[i] == 1);
  }
  if (!alike) row.weights = std::move(weights);
}

// A tokenizer adds a BOS token to a text, but that text may begin with one already.
void drop_double_bos(Encoding& tokens, TokenizedRow& row, const Tokenizer& tokenizer) {
  row.double_bos = remove_double_bos(tokens.ids, tokenizer);
  if (row.double_bos) tokens.spans.erase(tokens.spans.begin());
}

TokenizedRow tokenize_text(const std::string& prompt, const std::string& completion, bool completion_alone,
                           const Tokenizer& tokenizer, const MaskOptions& options) {
  const std::string text = prompt + with_end_of_text(completion, tokenizer);
  TokenizedRow result;
  Encoding whole = tokenizer.encode(text);
  drop_double_bos(whole, result, tokenizer);
  std::vector<bool> trained(whole.ids.size(), true);
  if (completion_alone) {
    std::vector<int32_t> prompt_ids = tokenizer.encode(prompt).ids;
    remove_double_bos(prompt_ids, tokenizer);
    trained = tokens_of_completion(text, whole, prompt_ids, static_cast<int64_t>(prompt.size()));
    result.boundary_mismatch = common_prefix(prompt_ids, whole.ids) < prompt_ids.size();
  }
  set_weights(result, weights_of_text(std::move(trained), whole.ids, tokenizer, options));
  result.ids = std::move(whole.ids);
  return result;
}

// `prompt_messages` of the messages are the prompt, which is left out where `completion_alone`.
TokenizedRow tokenize_chat(const Json::Array& messages, size_t prompt_messages, bool completion_alone,
                           const Json& context, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                           const MaskOptions& options) {
  // A template writes every special token itself.
  const EncodeOptions as_written{.add_special_tokens = false};
  const Json conversation = conversation_for_template(messages, context);
  const RenderedChat chat = chat_template.render(conversation);
  TokenizedRow result;
  Encoding whole = tokenizer.encode(chat.text, as_written);
  drop_double_bos(whole, result, tokenizer);
  std::vector<bool> trained(whole.ids.size(), true);
  if (completion_alone) {
    Json before = conversation;
    before.find("messages")->as_array().resize(prompt_messages);
    const std::string prompt = chat_template.render(before, {.add_generation_prompt = true}).text;
    std::vector<int32_t> prompt_ids = tokenizer.encode(prompt, as_written).ids;
    remove_double_bos(prompt_ids, tokenizer);
    std::optional<int64_t> prompt_bytes;
    if (starts_with(chat.text, prompt)) prompt_bytes = static_cast<int64_t>(prompt.size());
    trained = tokens_of_completion(chat.text, whole, prompt_ids, prompt_bytes);
    result.boundary_mismatch = common_prefix(prompt_ids, whole.ids) < prompt_ids.size();
  }
  set_weights(result, weights_of_chat(std::move(trained), messages, conversation, chat, whole, tokenizer,
                                      chat_template, options));
  result.ids = std::move(whole.ids);
  return result;
}

TokenizedRow tokenize_segments(const SegmentsRow& row, const Tokenizer& tokenizer,
                               const MaskOptions& options) {
  TokenizedRow result;
  std::vector<bool> trained;
  for (const auto& segment : row.segments) {
    const auto ids = tokenizer.encode(segment.text, {.add_special_tokens = false}).ids;
    result.ids.insert(result.ids.end(), ids.begin(), ids.end());
    trained.resize(result.ids.size(), segment.trained);
  }
  set_weights(result, weights_of_text(std::move(trained), result.ids, tokenizer, options));
  return result;
}

TokenizedRow tokenised_already(const TokenisedRow& row, const Tokenizer& tokenizer,
                               const MaskOptions& options) {
  TokenizedRow result;
  result.ids = row.ids;
  std::vector<bool> trained = row.trained;
  if (row.has_completion_mask && completion_alone(options))
    for (size_t i = 0; i < trained.size(); ++i) trained[i] = trained[i] && row.completion[i];
  set_weights(result, weights_of_text(std::move(trained), result.ids, tokenizer, options));
  return result;
}

bool has_label(const std::vector<bool>& trained) {
  return !trained.empty() && std::find(trained.begin() + 1, trained.end(), true) != trained.end();
}

// Cuts the row to max_length; false where it is to be left out for its length.
bool fit_to_length(TokenizedRow& row, const ExampleOptions& options, DataStatistics& statistics,
                   const std::function<std::string()>& where) {
  const auto limit = static_cast<size_t>(options.max_length);
  if (options.max_length <= 0 || row.ids.size() <= limit || options.pieces != Pieces::whole) return true;
  if (options.truncation == Truncation::refuse)
    fail(
        "{}: the row has {} tokens, more than max_length {} (truncation_mode error); raise max_length, or "
        "choose truncation_mode keep_start, keep_end or drop",
        where(), row.ids.size(), limit);
  if (options.truncation == Truncation::drop) {
    ++statistics.over_long;
    return false;
  }
  const size_t cut = row.ids.size() - limit;
  ++statistics.truncated;
  statistics.tokens_cut += static_cast<int64_t>(cut);
  const auto keep = [&](auto& values) {
    if (values.empty()) return;
    if (options.truncation == Truncation::keep_end)
      values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(cut));
    values.resize(limit);
  };
  keep(row.ids);
  keep(row.trained);
  keep(row.weights);
  return true;
}

// Passes documents on and counts them.
class CountingSink final : public ExampleSink {
 public:
  CountingSink(ExampleSink& next, DataStatistics& statistics) : next_(next), statistics_(statistics) {}
  void add(std::span<const int32_t> ids, const std::vector<bool>& trained,
           std::span<const float> weights) override {
    const auto length = static_cast<int64_t>(ids.size());
    ++statistics_.examples;
    statistics_.tokens += length;
    statistics_.labels += std::count(trained.begin() + 1, trained.end(), true);
    statistics_.longest = std::max(statistics_.longest, length);
    next_.add(ids, trained, weights);
  }
  void add_values(std::span<const double> values) override { next_.add_values(values); }

 private:
  ExampleSink& next_;
  DataStatistics& statistics_;
};

void add_row(TokenizedRow row, const ExampleOptions& options, DataStatistics& statistics, ExampleSink& out,
             const std::function<std::string()>& where) {
  statistics.boundary_mismatches += row.boundary_mismatch;
  statistics.double_bos += row.double_bos;
  if (!fit_to_length(row, options, statistics, where)) return;
  // Wrapped, a row without a label is still what others see before them.
  if (row.ids.empty() || (options.pieces != Pieces::wrapped && !has_label(row.trained))) {
    ++statistics.dropped;
    return;
  }
  out.add(row.ids, row.trained, row.weights);
}

std::vector<std::string> notes_of(const DataStatistics& statistics, const std::string& path,
                                  const ExampleOptions& options) {
  std::vector<std::string> notes;
  if (statistics.truncated > 0)
    notes.push_back(
        fmt::format("{}: {} of {} rows are longer than max_length {} and lose {} tokens at their {}", path,
                    statistics.truncated, statistics.rows, options.max_length, statistics.tokens_cut,
                    options.truncation == Truncation::keep_end ? "start" : "end"));
  if (statistics.over_long > 0)
    notes.push_back(fmt::format("{}: {} of {} rows are longer than max_length {} and are left out", path,
                                statistics.over_long, statistics.rows, options.max_length));
  if (statistics.dropped > 0)
    notes.push_back(fmt::format("{}: {} of {} rows are left out because no token of them would be trained{}",
                                path, statistics.dropped, statistics.rows,
                                options.mask.response_part.empty()
                                    ? ""
                                    : "; does response_part stand in them as the template writes it?"));
  if (statistics.double_bos > 0)
    notes.push_back(
        fmt::format("{}: {} of {} rows began with two BOS tokens (the text or the template writes one too); "
                    "one was taken away",
                    path, statistics.double_bos, statistics.rows));
  if (statistics.boundary_mismatches > 0)
    notes.push_back(
        fmt::format("{}: in {} rows the prompt has other tokens alone than before its completion (a "
                    "token spans the boundary, or the template writes the prompt differently); end "
                    "prompts at a token's end, for example without a trailing space",
                    path, statistics.boundary_mismatches));
  return notes;
}

}  // namespace

std::string DataStatistics::text() const {
  const double share = tokens > 0 ? 100.0 * static_cast<double>(labels) / static_cast<double>(tokens) : 0.0;
  return fmt::format(
      "{} examples of {} rows, {} tokens, {} of them trained on ({:.1f} %), longest {}; {} cut, {} left out",
      examples, rows, tokens, labels, share, longest, truncated, dropped + over_long);
}

Truncation truncation_from_name(const std::string& name) {
  if (name == "keep_start") return Truncation::keep_start;
  if (name == "keep_end") return Truncation::keep_end;
  if (name == "drop") return Truncation::drop;
  if (name == "error") return Truncation::refuse;
  fail_usage("truncation_mode is '{}', expected keep_start, keep_end, drop or error", name);
}

std::string with_end_of_text(std::string text, const Tokenizer& tokenizer) {
  const auto eos = tokenizer.eos_id();
  if (!eos) return text;
  const std::string end = tokenizer.id_to_token(*eos);
  return ends_with(text, end) ? text : text + end;
}

bool remove_double_bos(std::vector<int32_t>& ids, const Tokenizer& tokenizer) {
  const auto bos = tokenizer.bos_id();
  if (!bos || ids.size() < 2 || ids[0] != *bos || ids[1] != *bos) return false;
  ids.erase(ids.begin());
  return true;
}

TokenizedRow tokenize_row(const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                          const ChatTemplate* chat_template, const MaskOptions& options) {
  SERVAL_CHECK(!shape.chat || chat_template != nullptr);
  const bool alone = completion_alone(options);
  if (const auto* text = std::get_if<TextRow>(&row.body))
    return tokenize_text("", text->text, false, tokenizer, options);
  if (const auto* pair = std::get_if<PromptCompletionRow>(&row.body)) {
    if (!shape.chat)
      return tokenize_text(pair->prompt.text, pair->completion.text, alone, tokenizer, options);
    Json::Array messages = pair->prompt.messages;
    messages.insert(messages.end(), pair->completion.messages.begin(), pair->completion.messages.end());
    return tokenize_chat(messages, pair->prompt.messages.size(), alone, row.context, tokenizer,
                         *chat_template, options);
  }
  if (const auto* conversation = std::get_if<ConversationRow>(&row.body))
    return tokenize_chat(conversation->messages, 0, false, row.context, tokenizer, *chat_template, options);
  if (const auto* segments = std::get_if<SegmentsRow>(&row.body))
    return tokenize_segments(*segments, tokenizer, options);
  const auto* tokens = std::get_if<TokenisedRow>(&row.body);
  SERVAL_CHECK(tokens != nullptr, "rows of kind {} are no supervised ones", row.body.index());
  return tokenised_already(*tokens, tokenizer, options);
}

TokenizedData tokenize_dataset(const DatasetReader& rows, const DatasetShape& shape,
                               const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                               const ExampleOptions& options, const TokenizeProgress& progress,
                               ExampleSink* sink) {
  check_mask_options(options.mask, shape, chat_template, rows.path());
  TokenizedData data;
  CountingSink counted(sink == nullptr ? data.examples : *sink, data.statistics);
  std::optional<PieceSink> pieces;
  if (options.pieces != Pieces::whole)
    pieces.emplace(counted, options.max_length, options.pieces == Pieces::wrapped);
  ExampleSink& out = pieces ? static_cast<ExampleSink&>(*pieces) : counted;
  const auto work = [&](int64_t i) {
    const TrainingRow row = read_training_row(rows.row(i), shape, rows.where(i));
    try {
      return tokenize_row(row, shape, tokenizer, chat_template, options.mask);
    } catch (const UserError& error) {
      fail("{}: {}", rows.where(i), error.what());
    }
  };
  for_each_row(rows, progress, work, [&](int64_t i, TokenizedRow row) {
    add_row(std::move(row), options, data.statistics, out, [&] { return rows.where(i); });
  });
  if (pieces) pieces->finish();
  DataStatistics& statistics = data.statistics;
  statistics.rows = rows.size();
  data.notes = notes_of(statistics, rows.path(), options);
  const bool adds_end = shape.kind == RowKind::text || (shape.has_prompt() && !shape.chat);
  if (adds_end && !tokenizer.eos_id())
    data.notes.push_back(fmt::format(
        "{}: the tokenizer names no end-of-text token, so texts do not end with one", rows.path()));
  if (statistics.examples == 0)
    fail(
        "{}: none of its {} rows has a token to train on ({} were longer than max_length {}); raise "
        "max_length or look at the rows with --preview{}",
        rows.path(), statistics.rows, statistics.truncated + statistics.over_long, options.max_length,
        options.mask.response_part.empty()
            ? ""
            : "; instruction_part and response_part must stand in the text as the template writes them");
  return data;
}

}  // namespace serval
