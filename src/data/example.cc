#include "data/example.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "base/text.h"
#include "data/mask.h"

namespace serval {
namespace {

std::string with_end_of_text(std::string text, const Tokenizer& tokenizer) {
  const auto eos = tokenizer.eos_id();
  if (!eos) return text;
  const std::string end = tokenizer.id_to_token(*eos);
  return ends_with(text, end) ? text : text + end;
}

bool on_completion_alone(const DatasetShape& shape, const ExampleOptions& options) {
  return shape.has_prompt() && options.completion_only_loss.value_or(true);
}

TokenizedRow tokenize_text(const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                           const ExampleOptions& options) {
  const std::string text = row.prompt + with_end_of_text(row.completion, tokenizer);
  Encoding whole = tokenizer.encode(text);
  TokenizedRow result;
  if (on_completion_alone(shape, options)) {
    const std::vector<int32_t> prompt = tokenizer.encode(row.prompt).ids;
    result.trained = tokens_of_completion(text, whole, prompt, static_cast<int64_t>(row.prompt.size()));
    result.boundary_mismatch = common_prefix(prompt, whole.ids) < prompt.size();
  } else {
    result.trained.assign(whole.ids.size(), true);
  }
  result.ids = std::move(whole.ids);
  return result;
}

Json prompt_of(const TrainingRow& row) {
  Json prompt = row.conversation;
  auto& messages = prompt.find("messages")->as_array();
  messages.resize(static_cast<size_t>(row.prompt_messages));
  return prompt;
}

TokenizedRow tokenize_chat(const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                           const ChatTemplate& chat_template, const ExampleOptions& options) {
  // A template writes every special token itself.
  const EncodeOptions as_written{.add_special_tokens = false};
  const RenderedChat chat = chat_template.render(row.conversation);
  Encoding whole = tokenizer.encode(chat.text, as_written);
  TokenizedRow result;
  result.trained.assign(whole.ids.size(), true);
  if (on_completion_alone(shape, options)) {
    const std::string prompt = chat_template.render(prompt_of(row), {.add_generation_prompt = true}).text;
    const std::vector<int32_t> prompt_ids = tokenizer.encode(prompt, as_written).ids;
    std::optional<int64_t> prompt_bytes;
    if (starts_with(chat.text, prompt)) prompt_bytes = static_cast<int64_t>(prompt.size());
    result.trained = tokens_of_completion(chat.text, whole, prompt_ids, prompt_bytes);
    result.boundary_mismatch = common_prefix(prompt_ids, whole.ids) < prompt_ids.size();
  }
  if (options.assistant_only_loss) {
    const std::vector<bool> generated = tokens_inside(chat.text, whole, chat.generated);
    for (size_t i = 0; i < generated.size(); ++i) result.trained[i] = result.trained[i] && generated[i];
  }
  result.ids = std::move(whole.ids);
  return result;
}

void check_options(const DatasetReader& rows, const DatasetShape& shape, const ChatTemplate* chat_template,
                   const ExampleOptions& options) {
  if (options.completion_only_loss.value_or(false) && !shape.has_prompt())
    fail("{}: completion_only_loss needs rows with a prompt and a completion; these have none", rows.path());
  if (shape.chat && chat_template == nullptr)
    fail("{}: the rows are conversations, but the model has no chat template", rows.path());
  if (!options.assistant_only_loss) return;
  if (!shape.chat) fail("{}: assistant_only_loss needs conversations; these rows are text", rows.path());
  if (!chat_template->has_generation_spans())
    fail(
        "{}: assistant_only_loss needs a chat template that marks the assistant's words with {{% generation "
        "%}}; "
        "this one does not (turn assistant_only_loss off, or use a training template)",
        rows.path());
}

bool has_label(const std::vector<bool>& trained) {
  return !trained.empty() && std::find(trained.begin() + 1, trained.end(), true) != trained.end();
}

void add_row(TokenizedRow row, int64_t max_length, TokenizedData& data, ExampleSink& sink) {
  DataStatistics& statistics = data.statistics;
  const auto limit = static_cast<size_t>(max_length);
  statistics.boundary_mismatches += row.boundary_mismatch;
  if (max_length > 0 && row.ids.size() > limit) {
    ++statistics.truncated;
    statistics.tokens_cut += static_cast<int64_t>(row.ids.size() - limit);
    row.ids.resize(limit);
    row.trained.resize(limit);
  }
  if (!has_label(row.trained)) {
    ++statistics.dropped;
    return;
  }
  statistics.longest = std::max(statistics.longest, static_cast<int64_t>(row.ids.size()));
  ++statistics.examples;
  statistics.tokens += static_cast<int64_t>(row.ids.size());
  statistics.labels += std::count(row.trained.begin() + 1, row.trained.end(), true);
  sink.add(row.ids, row.trained);
}

std::vector<std::string> notes_of(const DataStatistics& statistics, const std::string& path,
                                  const ExampleOptions& options) {
  std::vector<std::string> notes;
  if (statistics.truncated > 0)
    notes.push_back(
        fmt::format("{}: {} of {} rows are longer than max_length {} and lose {} tokens at their end", path,
                    statistics.truncated, statistics.rows, options.max_length, statistics.tokens_cut));
  if (statistics.dropped > 0)
    notes.push_back(fmt::format("{}: {} of {} rows are left out because no token of them would be trained",
                                path, statistics.dropped, statistics.rows));
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
      examples, rows, tokens, labels, share, longest, truncated, dropped);
}

TokenizedRow tokenize_row(const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                          const ChatTemplate* chat_template, const ExampleOptions& options) {
  if (!shape.chat) return tokenize_text(row, shape, tokenizer, options);
  SERVAL_CHECK(chat_template != nullptr);
  return tokenize_chat(row, shape, tokenizer, *chat_template, options);
}

TokenizedData tokenize_dataset(const DatasetReader& rows, const DatasetShape& shape,
                               const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                               const ExampleOptions& options, const TokenizeProgress& progress,
                               ExampleSink* sink) {
  check_options(rows, shape, chat_template, options);
  TokenizedData data;
  const int64_t total = rows.size(), window = 256 * std::max(1, num_threads());
  std::vector<TokenizedRow> results;
  std::vector<std::exception_ptr> errors;
  for (int64_t begin = 0; begin < total; begin += window) {
    const int64_t end = std::min(begin + window, total);
    results.assign(static_cast<size_t>(end - begin), {});
    errors.assign(results.size(), nullptr);
    parallel_for(begin, end, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        const auto slot = static_cast<size_t>(i - begin);
        try {
          const TrainingRow row = read_training_row(rows.row(i), shape, rows.where(i));
          try {
            results[slot] = tokenize_row(row, shape, tokenizer, chat_template, options);
          } catch (const UserError& error) {
            fail("{}: {}", rows.where(i), error.what());
          }
        } catch (...) {
          errors[slot] = std::current_exception();
        }
      }
    });
    for (size_t slot = 0; slot < results.size(); ++slot) {
      if (errors[slot]) std::rethrow_exception(errors[slot]);
      add_row(std::move(results[slot]), options.max_length, data, sink == nullptr ? data.examples : *sink);
    }
    rows.forget(begin, end);
    if (progress) progress(end, total);
  }
  DataStatistics& statistics = data.statistics;
  statistics.rows = total;
  data.notes = notes_of(statistics, rows.path(), options);
  if (!shape.chat && !tokenizer.eos_id())
    data.notes.push_back(fmt::format(
        "{}: the tokenizer names no end-of-text token, so texts do not end with one", rows.path()));
  if (statistics.examples == 0)
    fail(
        "{}: none of its {} rows has a token to train on ({} were cut at max_length {}); raise max_length or "
        "look at "
        "the rows with --preview",
        rows.path(), total, statistics.truncated, options.max_length);
  return data;
}

}  // namespace serval
