#include "data/group_example.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/error.h"
#include "data/preference_example.h"
#include "data/row_pipeline.h"

namespace serval {
namespace {

// The prompt and an answer as a document whose answer is trained; unset where it is to be left out.
std::optional<GroupDocument> answer_document(const std::vector<int32_t>& prompt,
                                             const std::vector<int32_t>& answer,
                                             const ExampleOptions& options, bool& truncated) {
  const auto joined = join_answer(prompt, answer, options.max_length, options.truncation);
  if (!joined || joined->prompt_tokens == static_cast<int64_t>(joined->ids.size())) return std::nullopt;
  GroupDocument document;
  truncated = truncated || joined->ids.size() < prompt.size() + answer.size();
  document.ids = joined->ids;
  document.trained.assign(document.ids.size(), true);
  std::fill_n(document.trained.begin(), joined->prompt_tokens, false);
  return document;
}

// TRL's PRM: each step with a line break behind it, and the verdict at its last token.
std::optional<GroupDocument> steps_document(const StepwiseRow& row, const Tokenizer& tokenizer,
                                            const ExampleOptions& options, bool& truncated) {
  const EncodeOptions as_written{.add_special_tokens = false};
  GroupDocument document;
  if (tokenizer.bos_id()) document.ids.push_back(*tokenizer.bos_id());
  const auto append = [&](const std::vector<int32_t>& ids) {
    document.ids.insert(document.ids.end(), ids.begin(), ids.end());
    document.trained.resize(document.ids.size(), false);
  };
  append(tokenizer.encode(row.prompt, as_written).ids);
  const std::vector<int32_t> separator = tokenizer.encode("\n", as_written).ids;
  for (size_t i = 0; i < row.steps.size(); ++i) {
    append(tokenizer.encode(row.steps[i], as_written).ids);
    append(separator);
    document.trained.back() = true;
    document.values.push_back(row.correct[i] ? 1 : 0);
  }
  const auto limit = static_cast<size_t>(options.max_length);
  if (options.max_length > 0 && document.ids.size() > limit) {
    if (options.truncation == Truncation::drop) return std::nullopt;
    truncated = true;
    const size_t cut = options.truncation == Truncation::keep_end ? document.ids.size() - limit : 0;
    const auto first = document.trained.begin() + static_cast<std::ptrdiff_t>(cut);
    const auto before = std::count(document.trained.begin(), first, true);
    document.values.erase(document.values.begin(), document.values.begin() + before);
    document.trained.erase(document.trained.begin(), first);
    document.ids.erase(document.ids.begin(), document.ids.begin() + static_cast<std::ptrdiff_t>(cut));
    document.ids.resize(limit);
    document.trained.resize(limit);
    document.values.resize(
        static_cast<size_t>(std::count(document.trained.begin(), document.trained.end(), true)));
  }
  if (document.values.empty()) return std::nullopt;
  return document;
}

void refuse_long(const GroupDocument* longest, const ExampleOptions& options, bool too_long) {
  if (options.truncation == Truncation::refuse && too_long)
    fail(
        "the row has more tokens than max_length {}{} (truncation_mode error); raise max_length, or choose "
        "truncation_mode keep_start, keep_end or drop",
        options.max_length, longest == nullptr ? "" : fmt::format(" ({})", longest->ids.size()));
}

}  // namespace

int64_t documents_of(RowKind kind) {
  return kind == RowKind::preference ? 2 : 1;
}

bool is_group(RowKind kind) {
  return kind == RowKind::preference || kind == RowKind::unpaired || kind == RowKind::stepwise ||
         kind == RowKind::prompt;
}

std::string description_of(RowKind kind, int64_t document, std::span<const double> values) {
  if (kind == RowKind::preference) return document % 2 == 0 ? " chosen" : " rejected";
  if (kind == RowKind::unpaired) return values.back() > 0 ? " desirable" : " undesirable";
  if (kind == RowKind::prompt) return " prompt";
  if (kind != RowKind::stepwise) return {};
  std::string text = " steps";
  for (const double correct : values.subspan(1)) text += correct > 0 ? " 1" : " 0";
  return text;
}

RowGroup tokenize_group(const TrainingRow& row, const DatasetShape& shape, const Tokenizer& tokenizer,
                        const ChatTemplate* chat_template, const ExampleOptions& options) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  SERVAL_CHECK(is_group(row.kind()));
  RowGroup group;
  // `document` unset: the whole row is left out.
  const auto add = [&](std::optional<GroupDocument> document, std::vector<double> values) {
    if (!document) return false;
    document->values.insert(document->values.end(), values.begin(), values.end());
    group.documents.push_back(std::move(*document));
    return true;
  };
  // With truncation_mode error a row is first cut, to see whether it would be.
  ExampleOptions cutting = options;
  if (options.truncation == Truncation::refuse) cutting.truncation = Truncation::keep_start;
  if (const auto* pair = std::get_if<PreferenceRow>(&row.body)) {
    const PreferenceIds ids = tokenize_preference(*pair, row.context, shape.chat, tokenizer, chat_template);
    group.boundary_mismatch = ids.boundary_mismatch;
    const double margin = pair->margin.value_or(kNone);
    const bool whole = add(answer_document(ids.prompt, ids.chosen, cutting, group.truncated),
                           {margin, pair->chosen_score.value_or(kNone)}) &&
                       add(answer_document(ids.prompt, ids.rejected, cutting, group.truncated),
                           {margin, pair->rejected_score.value_or(kNone)});
    if (!whole) group.documents.clear();
  } else if (const auto* answer = std::get_if<UnpairedRow>(&row.body)) {
    const CompletionIds ids = tokenize_unpaired(*answer, row.context, shape.chat, tokenizer, chat_template);
    group.boundary_mismatch = ids.boundary_mismatch;
    add(answer_document(ids.prompt, ids.completion, cutting, group.truncated),
        {answer->desirable ? 1.0 : 0.0});
  } else if (const auto* steps = std::get_if<StepwiseRow>(&row.body)) {
    add(steps_document(*steps, tokenizer, cutting, group.truncated), {});
  } else {
    // A prompt is never cut: what a model goes on from would be another question.
    GroupDocument document;
    document.ids =
        tokenize_prompt(std::get<PromptRow>(row.body), row.context, shape.chat, tokenizer, chat_template);
    document.trained.assign(document.ids.size(), false);
    const bool long_one =
        options.max_length > 0 && static_cast<int64_t>(document.ids.size()) > options.max_length;
    refuse_long(&document, options, long_one);
    if (!document.ids.empty() && (!long_one || options.truncation != Truncation::drop))
      group.documents.push_back(std::move(document));
  }
  refuse_long(nullptr, options, options.max_length > 0 && (group.truncated || group.documents.empty()));
  return group;
}

TokenizedData tokenize_groups(const DatasetReader& rows, const DatasetShape& shape,
                              const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                              const ExampleOptions& options, const TokenizeProgress& progress,
                              ExampleSink* sink) {
  SERVAL_CHECK(is_group(shape.kind));
  const MaskOptions& mask = options.mask;
  if (mask.assistant_only_loss || !mask.train_on_roles.empty() || mask.last_turn_only ||
      !mask.response_part.empty() || mask.ends != TurnEnds::as_written || options.pieces != Pieces::whole)
    fail("{}: masks of conversations and packing do not go with {}", rows.path(), shape.explanation);
  if (shape.chat && chat_template == nullptr)
    fail("{}: the rows are conversations, but the model has no chat template", rows.path());
  TokenizedData data;
  DataStatistics& statistics = data.statistics;
  ExampleSink& out = sink == nullptr ? data.examples : *sink;
  const auto work = [&](int64_t i) {
    const TrainingRow row = read_training_row(rows.row(i), shape, rows.where(i));
    try {
      return tokenize_group(row, shape, tokenizer, chat_template, options);
    } catch (const UserError& error) {
      fail("{}: {}", rows.where(i), error.what());
    }
  };
  for_each_row(rows, progress, work, [&](int64_t i, RowGroup group) {
    statistics.boundary_mismatches += group.boundary_mismatch;
    if (group.documents.empty()) {
      ++statistics.dropped;
      return;
    }
    statistics.truncated += group.truncated;
    for (GroupDocument& document : group.documents) {
      const auto length = static_cast<int64_t>(document.ids.size());
      ++statistics.examples;
      statistics.tokens += length;
      statistics.labels += std::count(document.trained.begin() + 1, document.trained.end(), true);
      statistics.longest = std::max(statistics.longest, length);
      document.values.insert(document.values.begin(), static_cast<double>(i));
      out.add(document.ids, document.trained);
      out.add_values(document.values);
    }
  });
  statistics.rows = rows.size();
  if (statistics.truncated > 0)
    data.notes.push_back(fmt::format("{}: {} of {} rows are longer than max_length {} and are cut",
                                     rows.path(), statistics.truncated, statistics.rows, options.max_length));
  if (statistics.dropped > 0)
    data.notes.push_back(
        fmt::format("{}: {} of {} rows are left out because nothing of an answer would be left", rows.path(),
                    statistics.dropped, statistics.rows));
  if (statistics.boundary_mismatches > 0)
    data.notes.push_back(fmt::format(
        "{}: in {} rows the prompt has other tokens alone than before its answer; end prompts at a "
        "token's end, for example without a trailing space",
        rows.path(), statistics.boundary_mismatches));
  if (statistics.examples == 0)
    fail("{}: none of its {} rows is kept; raise max_length ({})", rows.path(), statistics.rows,
         options.max_length);
  return data;
}

}  // namespace serval
