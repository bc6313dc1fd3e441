#include <algorithm>
#include <array>
#include <set>

#include "base/text.h"
#include "base/utf8.h"
#include "data/readers/readers.h"

namespace serval {
namespace {

struct Field {
  std::string text;
  bool quoted = false;
};

// Reads the field at `at` and stops at the separator or line break behind it, or at the end.
class FieldReader {
 public:
  FieldReader(std::string_view text, char separator) : text_(text), separator_(separator) {}

  // `field` may be null: the field is only walked over.
  size_t read(size_t at, Field* field) const {
    if (at < text_.size() && text_[at] == '"') {
      if (field != nullptr) field->quoted = true;
      at = quoted(at, field);
    }
    // What follows a closing quote is taken as it stands, as Python's csv does.
    const size_t end = plain_end(at);
    if (field != nullptr) field->text += text_.substr(at, end - at);
    return end;
  }

 private:
  size_t plain_end(size_t at) const {
    while (at < text_.size() && text_[at] != separator_ && !line_break(at)) ++at;
    return at;
  }

  // "\r" alone ends a line too, as in Python's csv, pandas and Arrow.
  bool line_break(size_t at) const { return text_[at] == '\n' || text_[at] == '\r'; }

  size_t quoted(size_t open, Field* field) const {
    size_t at = open + 1;
    while (true) {
      const size_t quote = text_.find('"', at);
      if (quote == std::string_view::npos || quote - open > TextRows::kLongestRow)
        throw ScanError{open,
                        "the quoted field that begins on this line is never closed (or longer than 64 MiB)"};
      if (field != nullptr) field->text += text_.substr(at, quote - at);
      at = quote + 1;
      if (at >= text_.size() || text_[at] != '"') return at;
      if (field != nullptr) field->text += '"';
      ++at;
    }
  }

  std::string_view text_;
  char separator_;
};

class CsvScanner final : public RowScanner {
 public:
  explicit CsvScanner(char separator) : separator_(separator) {}

  bool next(std::string_view text, size_t at, RowPlace& row) const override {
    for (; at < text.size(); at = row.next) {
      row = {at, row_end(text, at), 0};
      row.next = std::min(row.end + 1, text.size());
      if (row.next < text.size() && text[row.end] == '\r' && text[row.next] == '\n') ++row.next;
      if (row.end > row.begin) return true;
    }
    return false;
  }

 private:
  // Where the line break behind the row is, or the end. Most rows have no quote: no walk over their fields.
  size_t row_end(std::string_view text, size_t at) const {
    size_t end = at;
    while (end < text.size() && text[end] != '\n' && text[end] != '\r' && text[end] != '"') ++end;
    if (end == text.size() || text[end] != '"') return end;
    const FieldReader reader(text, separator_);
    while (true) {
      at = reader.read(at, nullptr);
      if (at >= text.size() || text[at] != separator_) return std::min(at, text.size());
      ++at;
    }
  }

  char separator_;
};

std::vector<Field> fields_of(std::string_view row, char separator) {
  std::vector<Field> fields;
  const FieldReader reader(row, separator);
  size_t at = 0;
  while (true) {
    at = reader.read(at, &fields.emplace_back());
    if (at >= row.size()) break;
    ++at;  // the separator
    if (at == row.size()) {
      fields.emplace_back();
      break;
    }
  }
  return fields;
}

bool holds_json(std::string_view column) {
  static const std::set<std::string, std::less<>> kColumns = {"messages",       "conversations",
                                                              "conversation",   "tools",
                                                              "functions",      "history",
                                                              "chosen",         "rejected",
                                                              "prompt",         "completion",
                                                              "segments",       "answers",
                                                              "metadata",       "chat_template_kwargs",
                                                              "input_ids",      "labels",
                                                              "attention_mask", "completions"};
  return kColumns.contains(column);
}

Json value_of(const std::string& column, Field field, const std::string& where) {
  if (field.text.empty() && !field.quoted) return Json();
  if (column == "label" || column == "kto_tag") {
    for (const char* word : {"true", "True", "TRUE"})
      if (field.text == word) return Json(true);
    for (const char* word : {"false", "False", "FALSE"})
      if (field.text == word) return Json(false);
  }
  if (holds_json(column) && (starts_with(field.text, "[") || starts_with(field.text, "{"))) {
    try {
      return Json::parse(field.text, where);
    } catch (const UserError&) {
      // Text that begins with a bracket.
    }
  }
  return Json(std::move(field.text));
}

class CsvReader final : public TextFileReader {
 public:
  CsvReader(NamedFile file, size_t begin, const CsvOptions& options, std::vector<std::string> columns)
      : TextFileReader(std::move(file), begin, std::make_unique<CsvScanner>(options.separator)),
        separator_(options.separator),
        columns_(std::move(columns)) {}

  Json row(int64_t index) const override {
    if (!is_utf8(rows_.text(index))) refuse_utf8(rows_.text(index), where(index));
    std::vector<Field> fields = fields_of(rows_.text(index), separator_);
    if (fields.size() > columns_.size())
      fail("{}: has {} fields, but the first line names {} columns: {}", where(index), fields.size(),
           columns_.size(), in_quotes(join(columns_, ", ")));
    Json::Object row;
    for (size_t i = 0; i < columns_.size(); ++i)
      row.emplace_back(columns_[i],
                       i < fields.size() ? value_of(columns_[i], std::move(fields[i]), file_.name) : Json());
    return Json(std::move(row));
  }

 private:
  char separator_;
  std::vector<std::string> columns_;
};

std::string name_of(char separator) {
  return separator == '\t' ? "\\t" : fmt::format("'{}'", separator);
}

std::vector<std::string> columns_of(std::string_view header, char separator, const std::string& name) {
  std::vector<std::string> columns;
  for (Field& field : fields_of(header, separator)) {
    if (field.text.empty())
      fail("{}:1: column {} has no name; the first line must name the columns", name, columns.size() + 1);
    if (std::find(columns.begin(), columns.end(), field.text) != columns.end())
      fail("{}:1: the column {} is named twice", name, in_quotes(field.text));
    columns.push_back(std::move(field.text));
  }
  return columns;
}

}  // namespace

std::unique_ptr<DatasetReader> open_csv(NamedFile file, const CsvOptions& options) {
  const std::string_view text = file.text();
  const size_t begin = skip_byte_order_mark(text, file.name);
  if (text.substr(0, 4096).find('\0') != std::string_view::npos)
    fail("{}: holds zero bytes, so this is no CSV", file.name);
  RowPlace header;
  try {
    if (!CsvScanner(options.separator).next(text, begin, header))
      fail("{}: holds no rows (the file is empty)", file.name);
  } catch (const ScanError& error) {
    fail("{}:1: {}", file.name, error.message);
  }
  const std::string_view first = text.substr(header.begin, header.end - header.begin);
  if (!is_utf8(first)) refuse_utf8(first, file.name + ":1");
  std::vector<std::string> columns = columns_of(first, options.separator, file.name);
  if (!options.told && columns.size() == 1)
    for (const char other : {';', '\t', '|', ','})
      if (other != options.separator && columns[0].find(other) != std::string::npos)
        fail(
            "{}:1: {} is one column where fields are apart by {}; set delimiter to {} (or to {} if it is "
            "one)",
            file.name, in_quotes(columns[0]), name_of(options.separator), name_of(other),
            name_of(options.separator));
  return std::make_unique<CsvReader>(std::move(file), header.next, options, std::move(columns));
}

}  // namespace serval
