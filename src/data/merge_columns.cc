#include "data/merge_columns.h"

#include <utility>
#include <vector>

#include "base/error.h"
#include "base/permutation.h"
#include "base/text.h"
#include "data/shapes/columns.h"
#include "data/shapes/messages.h"

namespace serval {
namespace {

// A prompt as pieces: text, or the name of a column. Pieces of one [[...]] share a group above 0.
struct Piece {
  std::string text;
  bool is_column = false;
  int group = 0;
};

std::vector<Piece> parse_prompt(const std::string& prompt) {
  std::vector<Piece> pieces;
  int group = 0, groups = 0;
  std::string text;
  const auto finish_text = [&] {
    if (!text.empty()) pieces.push_back({std::exchange(text, {}), false, group});
  };
  for (size_t at = 0; at < prompt.size();) {
    if (prompt.compare(at, 2, "[[") == 0) {
      if (group != 0) fail_usage("merged_prompt: '[[' stands inside another '[['");
      finish_text();
      group = ++groups;
      at += 2;
    } else if (prompt.compare(at, 2, "]]") == 0 && group != 0) {
      finish_text();
      bool names_column = false;
      for (const Piece& piece : pieces)
        names_column = names_column || (piece.group == group && piece.is_column);
      if (!names_column) fail_usage("merged_prompt: the part in [[ ]] number {} names no {{column}}", group);
      group = 0;
      at += 2;
    } else if (prompt[at] == '{') {
      const size_t end = prompt.find('}', at);
      if (end == std::string::npos) fail_usage("merged_prompt: a '{{' has no '}}'");
      finish_text();
      pieces.push_back({prompt.substr(at + 1, end - at - 1), true, group});
      at = end + 1;
    } else {
      text += prompt[at++];
    }
  }
  if (group != 0) fail_usage("merged_prompt: a '[[' has no ']]'");
  finish_text();
  return pieces;
}

std::string cell_text(const Json& value) {
  if (value.is_string()) return value.as_string();
  if (value.is_null()) return {};
  if (value.is_bool()) return value.as_bool() ? "True" : "False";
  return value.dump();
}

class MergedRows : public DatasetReader {
 public:
  MergedRows(std::unique_ptr<DatasetReader> rows, const MergeOptions& options)
      : rows_(std::move(rows)), options_(options), pieces_(parse_prompt(options.prompt)) {
    const Json first = rows_->row(0);
    bool any = false;
    const auto check = [&](const std::string& column, const char* what) {
      if (!first.contains(column))
        fail("{}: {} names the column '{}', which is missing; found columns: {}", rows_->where(0), what,
             column, names_of_columns(first));
    };
    for (const Piece& piece : pieces_) {
      if (!piece.is_column) continue;
      any = true;
      check(piece.text, "merged_prompt");
    }
    if (!any) fail_usage("merged_prompt names no {{column}}");
    check(options_.output_column, "output_column_name");
    for (int64_t extension = 1; extension < options_.conversation_extension; ++extension)
      orders_.emplace_back(
          size(), philox_key(options_.seed, "conversation_extension", static_cast<uint32_t>(extension), 0));
  }

  int64_t size() const override { return rows_->size(); }
  std::string where(int64_t index) const override { return rows_->where(index); }
  const std::string& path() const override { return rows_->path(); }
  void forget(int64_t begin, int64_t end) const override { rows_->forget(begin, end); }

  Json row(int64_t index) const override {
    Json::Array messages;
    add_turn(index, messages);
    for (const Permutation& order : orders_) add_turn(order(index), messages);
    Json result = Json::object();
    result.set("messages", Json(std::move(messages)));
    return result;
  }

 private:
  void add_turn(int64_t index, Json::Array& messages) const {
    const Json row = rows_->row(index);
    const std::string where = rows_->where(index);
    std::string prompt;
    for (size_t i = 0; i < pieces_.size();) {
      size_t end = i + 1;
      while (end < pieces_.size() && pieces_[i].group != 0 && pieces_[end].group == pieces_[i].group) ++end;
      std::string part;
      bool empty = false;
      for (; i < end; ++i) {
        const Piece& piece = pieces_[i];
        const std::string text = piece.is_column ? cell_text(column_of(row, piece.text, where)) : piece.text;
        empty = empty || (piece.is_column && text.empty() && piece.group != 0);
        part += text;
      }
      if (!empty) prompt += part;
    }
    messages.push_back(make_message("user", std::move(prompt)));
    messages.push_back(make_message("assistant", cell_text(column_of(row, options_.output_column, where))));
  }

  std::unique_ptr<DatasetReader> rows_;
  MergeOptions options_;
  std::vector<Piece> pieces_;
  std::vector<Permutation> orders_;
};

}  // namespace

std::unique_ptr<DatasetReader> merge_columns(std::unique_ptr<DatasetReader> rows,
                                             const MergeOptions& options) {
  return std::make_unique<MergedRows>(std::move(rows), options);
}

}  // namespace serval
