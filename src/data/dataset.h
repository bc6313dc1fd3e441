// Rows of a dataset file. Nothing but the place of each row is kept: the file is mapped and a row is parsed
// when it is asked for. Read so far: JSONL (one object a line, blank lines skipped) and JSON (a list of
// objects), told apart by the first character. A wrong row is a UserError that names the file and the line.
//
//   const std::unique_ptr<DatasetReader> rows = open_dataset("train.jsonl");
//   for (int64_t i = 0; i < rows->size(); ++i) use(rows->row(i));
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "base/json.h"

namespace serval {

// Immutable: rows may be read from several threads at once.
class DatasetReader {
 public:
  virtual ~DatasetReader() = default;
  virtual int64_t size() const = 0;
  virtual Json row(int64_t index) const = 0;           // always an object
  virtual std::string where(int64_t index) const = 0;  // "train.jsonl:12", for messages about the row
  virtual const std::string& path() const = 0;
};

// Throws UserError where the file is missing, of another kind, or holds no row.
std::unique_ptr<DatasetReader> open_dataset(const std::string& path);

}  // namespace serval
