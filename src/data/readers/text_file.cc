#include "base/text.h"
#include "base/utf8.h"
#include "data/readers/readers.h"

namespace serval {

std::string_view NamedFile::text() const {
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

size_t skip_byte_order_mark(std::string_view text, const std::string& name) {
  if (starts_with(text, "\xFF\xFE") || starts_with(text, "\xFE\xFF"))
    fail("{}: is UTF-16; save it as UTF-8", name);
  return starts_with(text, "\xEF\xBB\xBF") ? 3 : 0;
}

void refuse_utf8(std::string_view row, const std::string& where) {
  fail("{}: {} is not valid UTF-8; save the file as UTF-8 (iconv -f latin1 -t utf-8, for example)", where,
       in_quotes(row, 60));
}

TextFileReader::TextFileReader(NamedFile file, size_t begin, std::unique_ptr<RowScanner> scanner)
    : file_(std::move(file)),
      rows_(
          file_.text(), begin, std::move(scanner), file_.name,
          [this](size_t offset, size_t size) { file_.file.forget(offset, size); }, file_.directory) {}

std::string TextFileReader::where(int64_t index) const {
  return fmt::format("{}:{}", file_.name, rows_.line(index));
}

void TextFileReader::forget(int64_t begin, int64_t end) const {
  if (begin >= end) return;
  const size_t from = rows_.place(begin).begin;
  file_.file.forget(from, rows_.place(end - 1).end - from);
}

namespace {

// Lines up to a blank one.
class ParagraphScanner : public RowScanner {
 public:
  bool next(std::string_view text, size_t at, RowPlace& row) const override {
    RowPlace line;
    if (!LineScanner().next(text, at, line)) return false;
    row = line;
    while (line.next < text.size()) {
      const size_t begin = line.next;
      const size_t new_line = std::min(text.find('\n', begin), text.size());
      line = {begin, new_line, std::min(new_line + 1, text.size())};
      row.next = line.next;
      if (trim(text.substr(begin, new_line - begin)).empty()) return true;
      row.end = new_line;
      if (text[row.end - 1] == '\r') --row.end;
    }
    return true;
  }
};

class DocumentScanner : public RowScanner {
 public:
  bool next(std::string_view text, size_t at, RowPlace& row) const override {
    if (trim(text.substr(at)).empty()) return false;
    row = {at, text.size(), text.size()};
    return true;
  }
};

std::unique_ptr<RowScanner> scanner_of(TextUnit unit) {
  if (unit == TextUnit::line) return std::make_unique<LineScanner>();
  if (unit == TextUnit::paragraph) return std::make_unique<ParagraphScanner>();
  return std::make_unique<DocumentScanner>();
}

class TextReader final : public TextFileReader {
 public:
  using TextFileReader::TextFileReader;
  Json row(int64_t index) const override {
    Json row = Json::object();
    if (!is_utf8(rows_.text(index))) refuse_utf8(rows_.text(index), where(index));
    row.set("text", Json(rows_.text(index)));
    return row;
  }
};

}  // namespace

std::unique_ptr<DatasetReader> open_text(NamedFile file, TextUnit unit) {
  const std::string_view text = file.text();
  const size_t begin = skip_byte_order_mark(text, file.name);
  if (text.substr(0, 4096).find('\0') != std::string_view::npos)
    fail("{}: holds zero bytes, so this is no text", file.name);
  return std::make_unique<TextReader>(std::move(file), begin, scanner_of(unit));
}

}  // namespace serval
