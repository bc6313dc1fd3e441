// Rows of a dataset: JSONL, JSON lists, CSV, TSV, text, Parquet and Arrow files, any of them compressed with
// gzip or Zstandard; directories, patterns and datasets of Hugging Face's cache (data/source.h). Little but
// the place of each row is kept: files are mapped and a row is parsed when it is asked for. A wrong row is a
// UserError that names the file and the line.
//
//   const std::unique_ptr<DatasetReader> rows = open_dataset("train.jsonl");
//   for (int64_t i = 0; i < rows->size(); ++i) use(rows->row(i));
//   const auto part = open_dataset(DatasetSource{.path = "org/name", .split = "train[:1%]"}, cache);
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/cache.h"
#include "data/source.h"

namespace serval {

// Immutable: rows may be read from several threads at once.
class DatasetReader {
 public:
  virtual ~DatasetReader() = default;
  virtual int64_t size() const = 0;
  virtual Json row(int64_t index) const = 0;           // always an object
  virtual std::string where(int64_t index) const = 0;  // "train.jsonl:12", for messages about the row
  virtual const std::string& path() const = 0;
  // These rows will not be asked for soon: what they hold of the process's memory is given back.
  virtual void forget(int64_t begin, int64_t end) const {
    (void)begin;
    (void)end;
  }
};

// Throws UserError where a file is missing, of another kind, or where there is no row at all.
std::unique_ptr<DatasetReader> open_dataset(const std::string& path);
std::unique_ptr<DatasetReader> open_dataset(const DatasetSource& source, const DataCache& cache);
// The same, of files that find_dataset_files(source) gave. `notes` takes what the user should know, a line
// each: splits of another size than the dataset says of itself. Null: warnings are logged.
std::unique_ptr<DatasetReader> open_dataset(const DatasetSource& source, const DatasetFiles& files,
                                            const DataCache& cache,
                                            std::vector<std::string>* notes = nullptr);

// Rows [begin, end) of a dataset, as a dataset.
std::unique_ptr<DatasetReader> rows_of(std::unique_ptr<DatasetReader> rows, int64_t begin, int64_t end);

}  // namespace serval
