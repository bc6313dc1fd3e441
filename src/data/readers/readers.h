// The readers of single files, one source file a kind. open_dataset() (data/dataset.h) picks among them; each
// may hold no row at all.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "base/file.h"
#include "data/dataset.h"
#include "data/readers/text_rows.h"

namespace serval {

// A file's bytes, and the name that messages call it by (a compressed file is read from its unpacked copy).
struct NamedFile {
  std::string name;
  MappedFile file;
  std::string directory{};  // of temporary files: an index that is large
  std::string_view text() const;
};

// JSONL and JSON lists of objects, told apart by the first character.
std::unique_ptr<DatasetReader> open_json(NamedFile file);

// RFC 4180: quoted fields may hold separators, line breaks and doubled quotes; the first line names the
// columns; empty lines are skipped. Every field is text, as it stands, but for: an empty field without quotes
// is null; a field that holds a JSON list or object, in a column that such a value belongs in (messages,
// tools, input_ids, ...); true and false in the columns label and kto_tag.
struct CsvOptions {
  char separator = ',';
  bool told = false;  // by the user: else a first line that another separator divides is an error
};
std::unique_ptr<DatasetReader> open_csv(NamedFile file, const CsvOptions& options);

// Rows {"text": ...}: a line each (blank ones skipped), a paragraph each (ended by blank lines), or the file.
enum class TextUnit { line, paragraph, document };
std::unique_ptr<DatasetReader> open_text(NamedFile file, TextUnit unit);

// Parquet, Arrow's file and stream formats, Feather V2, through the plugin (data/readers/arrow_plugin.h).
std::unique_ptr<DatasetReader> open_arrow(const std::string& path);

// Rows of text are UTF-8: the UserError for one that is not.
[[noreturn]] void refuse_utf8(std::string_view row, const std::string& where);

// A reader of rows that are pieces of a mapped text: what the three text formats share.
class TextFileReader : public DatasetReader {
 public:
  TextFileReader(NamedFile file, size_t begin, std::unique_ptr<RowScanner> scanner);
  int64_t size() const override { return rows_.size(); }
  const std::string& path() const override { return file_.name; }
  std::string where(int64_t index) const override;
  void forget(int64_t begin, int64_t end) const override;

 protected:
  NamedFile file_;
  TextRows rows_;
};

// How many bytes of a byte order mark the text begins with; UTF-16 is refused.
size_t skip_byte_order_mark(std::string_view text, const std::string& name);

}  // namespace serval
