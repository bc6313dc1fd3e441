// Where the rows of a text file are, at about a byte a row of an index that lies on the disk where it is
// large (data/disk_vector.h): a scanner finds the end of a row from its beginning, and the index remembers
// every 16th beginning (or one in 32 KB), from where it scans on.
//
//   const TextRows rows(text, 0, std::make_unique<LineScanner>(), path);
//   const std::string_view one = rows.text(7);
//   rows.line(7);      // where it begins, from 1
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "data/disk_vector.h"

namespace serval {

struct RowPlace {
  size_t begin = 0, end = 0;  // bytes of the file
  size_t next = 0;            // where to look for the row that follows
};

// What is wrong with a file, and at which byte: the index adds the file's name and the line.
struct ScanError {
  size_t at = 0;
  std::string message;
};

class RowScanner {
 public:
  virtual ~RowScanner() = default;
  // The first row at or after `at`; false where there is none. Throws ScanError. Stateless.
  virtual bool next(std::string_view text, size_t at, RowPlace& row) const = 0;
  // Stands between two rows: how much of it is worth scanning again for one row.
  virtual int64_t rows_a_mark() const { return 16; }
};

// A line each; blank ones are skipped, and the line break is no part of the row.
class LineScanner final : public RowScanner {
 public:
  bool next(std::string_view text, size_t at, RowPlace& row) const override;
};

class TextRows {
 public:
  // No row is longer; a longer one is an error, so that a wrong file costs no more memory than this.
  static constexpr size_t kLongestRow = size_t{64} << 20;

  // Scans the whole text once. `text` outlives this. `forget`, where given, is told of bytes that are done
  // with; a large index is a file in `directory`.
  TextRows(std::string_view text, size_t begin, std::unique_ptr<RowScanner> scanner, std::string path,
           const std::function<void(size_t offset, size_t size)>& forget = {},
           const std::string& directory = {});

  int64_t size() const { return count_; }
  RowPlace place(int64_t row) const;
  std::string_view text(int64_t row) const;
  int64_t line(int64_t row) const;
  const std::string& path() const { return path_; }

 private:
  struct Mark {
    int64_t row = 0, line = 0;
    size_t at = 0;
  };
  const Mark& mark_of(int64_t row) const;
  int64_t line_at(const Mark& mark, size_t at) const;
  [[noreturn]] void refuse(const ScanError& error) const;

  std::string_view text_;
  std::unique_ptr<RowScanner> scanner_;
  std::string path_;
  DiskVector<Mark> marks_;
  int64_t count_ = 0;
};

}  // namespace serval
