#include "data/readers/text_rows.h"

#include <algorithm>

#include "base/text.h"

namespace serval {
namespace {

constexpr size_t kBytesAMark = size_t{32} << 10;
constexpr size_t kForgetBytes = size_t{32} << 20;

int64_t lines_in(std::string_view text) {
  return std::count(text.begin(), text.end(), '\n');
}

}  // namespace

bool LineScanner::next(std::string_view text, size_t at, RowPlace& row) const {
  for (; at < text.size(); at = row.next) {
    const size_t new_line = std::min(text.find('\n', at), text.size());
    row = {at, new_line, std::min(new_line + 1, text.size())};
    if (row.end > row.begin && text[row.end - 1] == '\r') --row.end;
    if (!trim(text.substr(row.begin, row.end - row.begin)).empty()) return true;
  }
  return false;
}

TextRows::TextRows(std::string_view text, size_t begin, std::unique_ptr<RowScanner> scanner, std::string path,
                   const std::function<void(size_t, size_t)>& forget, const std::string& directory)
    : text_(text), scanner_(std::move(scanner)), path_(std::move(path)), marks_(directory) {
  Mark mark{0, 1 + lines_in(text.substr(0, begin)), begin};
  marks_.push_back(mark);
  size_t forgotten = 0;
  RowPlace row;
  for (size_t at = begin;; at = row.next) {
    const bool inside = at < text.size();
    if (inside && (count_ - mark.row >= scanner_->rows_a_mark() ||
                   (count_ > mark.row && at - mark.at >= kBytesAMark))) {
      mark = {count_, mark.line + lines_in(text.substr(mark.at, at - mark.at)), at};
      marks_.push_back(mark);
      if (forget && mark.at - forgotten >= kForgetBytes) {
        forget(forgotten, mark.at - forgotten);
        forgotten = mark.at;
      }
    }
    try {
      if (!scanner_->next(text, at, row)) break;
    } catch (const ScanError& error) {
      refuse(error);
    }
    if (row.end - row.begin > kLongestRow)
      refuse({row.begin, fmt::format("row {} is {} long, at most {} are read", count_ + 1,
                                     human_bytes(static_cast<int64_t>(row.end - row.begin)),
                                     human_bytes(static_cast<int64_t>(kLongestRow)))});
    ++count_;
  }
  if (forget) forget(forgotten, text.size() - forgotten);
}

const TextRows::Mark& TextRows::mark_of(int64_t row) const {
  SERVAL_CHECK(row >= 0 && row < count_);
  const auto after = std::upper_bound(marks_.begin(), marks_.end(), row,
                                      [](int64_t wanted, const Mark& mark) { return wanted < mark.row; });
  return *(after - 1);
}

RowPlace TextRows::place(int64_t row) const {
  const Mark& mark = mark_of(row);
  RowPlace place;
  place.next = mark.at;
  for (int64_t i = mark.row; i <= row; ++i) SERVAL_CHECK(scanner_->next(text_, place.next, place));
  return place;
}

std::string_view TextRows::text(int64_t row) const {
  const RowPlace found = place(row);
  return text_.substr(found.begin, found.end - found.begin);
}

int64_t TextRows::line_at(const Mark& mark, size_t at) const {
  return mark.line + lines_in(text_.substr(mark.at, at - mark.at));
}

int64_t TextRows::line(int64_t row) const {
  return line_at(mark_of(row), place(row).begin);
}

void TextRows::refuse(const ScanError& error) const {
  const size_t at = std::min(error.at, text_.size());
  fail("{}:{}: {}", path_, line_at(marks_.back(), std::max(at, marks_.back().at)), error.message);
}

}  // namespace serval
