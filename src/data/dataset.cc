#include "data/dataset.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "data/readers/readers.h"
#include "data/readers/unpack.h"

namespace serval {
namespace {

enum class Format { json, csv, tsv, text, table };

Format format_of(const DatasetSource& source, const NamedFile& file) {
  const std::string& wanted = source.format;
  if (wanted == "json") return Format::json;
  if (wanted == "csv") return Format::csv;
  if (wanted == "tsv") return Format::tsv;
  if (wanted == "text") return Format::text;
  if (wanted == "parquet" || wanted == "arrow") return Format::table;
  const std::string_view text = file.text();
  for (const char* magic : {"PAR1", "ARROW1", "\xFF\xFF\xFF\xFF"})
    if (starts_with(text, magic)) return Format::table;
  const std::string name = without_compression(file.name);
  if (ends_with(name, ".csv")) return Format::csv;
  if (ends_with(name, ".tsv")) return Format::tsv;
  if (ends_with(name, ".txt")) return Format::text;
  if (ends_with(name, ".parquet") || ends_with(name, ".arrow") || ends_with(name, ".feather"))
    return Format::table;
  return Format::json;
}

CsvOptions csv_options(const DatasetSource& source, Format format) {
  CsvOptions options{.separator = format == Format::tsv ? '\t' : ','};
  if (source.delimiter.empty()) return options;
  const std::string delimiter = source.delimiter == "\\t" ? "\t" : source.delimiter;
  if (delimiter.size() != 1 || delimiter == "\"" || delimiter == "\n")
    fail_usage("{}: the delimiter is {}, expected one character such as ',' ';' '|' or \\t", source.path,
               in_quotes(source.delimiter));
  options.separator = delimiter[0];
  options.told = true;
  return options;
}

TextUnit unit_of(const std::string& name) {
  return name == "paragraph" ? TextUnit::paragraph : name == "document" ? TextUnit::document : TextUnit::line;
}

std::unique_ptr<DatasetReader> open_file(const DatasetSource& source, const std::string& path,
                                         const DataCache& cache) {
  NamedFile file{path, {}, cache.directory()};
  const auto compression = compression_of(path);
  file.file = compression ? unpack(path, *compression, cache) : MappedFile(path);
  const Format format = format_of(source, file);
  switch (format) {
    case Format::json:
      return open_json(std::move(file));
    case Format::csv:
    case Format::tsv:
      return open_csv(std::move(file), csv_options(source, format));
    case Format::text:
      return open_text(std::move(file), unit_of(source.sample_by));
    case Format::table:
      break;
  }
  if (compression)
    fail("{}: Parquet and Arrow files are compressed inside; unpack this one (gunzip or zstd -d)", path);
  return open_arrow(path);
}

// Slices of files, one behind the other.
class JoinedReader final : public DatasetReader {
 public:
  explicit JoinedReader(std::string path) : path_(std::move(path)) {}

  // Rows [begin, end) of the reader.
  void add(std::shared_ptr<const DatasetReader> reader, int64_t begin, int64_t end) {
    if (begin >= end) return;
    starts_.push_back(size_);
    slices_.push_back({std::move(reader), begin});
    size_ += end - begin;
  }

  int64_t size() const override { return size_; }
  const std::string& path() const override { return path_; }
  Json row(int64_t index) const override {
    const auto [slice, row] = find(index);
    return slice->reader->row(row);
  }
  std::string where(int64_t index) const override {
    const auto [slice, row] = find(index);
    return slice->reader->where(row);
  }
  void forget(int64_t begin, int64_t end) const override {
    for (size_t i = 0; i < slices_.size(); ++i) {
      const int64_t start = starts_[i], stop = i + 1 < starts_.size() ? starts_[i + 1] : size_;
      const int64_t from = std::max(begin, start), to = std::min(end, stop);
      if (from < to)
        slices_[i].reader->forget(from - start + slices_[i].begin, to - start + slices_[i].begin);
    }
  }

 private:
  struct Slice {
    std::shared_ptr<const DatasetReader> reader;
    int64_t begin;
  };
  std::pair<const Slice*, int64_t> find(int64_t index) const {
    SERVAL_CHECK(index >= 0 && index < size_);
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), index);
    const auto slice = static_cast<size_t>(after - starts_.begin()) - 1;
    return {&slices_[slice], index - starts_[slice] + slices_[slice].begin};
  }

  std::string path_;
  std::vector<Slice> slices_;
  std::vector<int64_t> starts_;
  int64_t size_ = 0;
};

void check_size(const DatasetSource& source, const DatasetFiles& files, const std::string& split,
                int64_t rows, std::vector<std::string>* notes) {
  const auto expected = files.expected_rows.find(split);
  if (expected == files.expected_rows.end() || expected->second == rows) return;
  const std::string note =
      fmt::format("{}: the split '{}' has {} rows, but {} says {}; is the download complete?",
                  display_name(source), split, rows, files.expected_by, expected->second);
  if (notes != nullptr)
    notes->push_back(note);
  else
    warn("{}", note);
}

}  // namespace

std::unique_ptr<DatasetReader> open_dataset(const DatasetSource& source, const DatasetFiles& files,
                                            const DataCache& cache, std::vector<std::string>* notes) {
  if (files.parts.size() == 1 && files.parts[0].files.size() == 1 && files.parts[0].split.whole()) {
    auto reader = open_file(source, files.parts[0].files[0], cache);
    if (reader->size() == 0) fail("{}: holds no rows (the file is empty)", reader->path());
    check_size(source, files, files.parts[0].split.name, reader->size(), notes);
    return reader;
  }
  auto joined = std::make_unique<JoinedReader>(display_name(source));
  for (const SplitFiles& part : files.parts) {
    std::vector<std::shared_ptr<const DatasetReader>> readers;
    int64_t size = 0;
    for (const std::string& path : part.files) {
      readers.push_back(open_file(source, path, cache));
      size += readers.back()->size();
    }
    if (size == 0) fail("{}: the split '{}' holds no rows", display_name(source), part.split.name);
    check_size(source, files, part.split.name, size, notes);
    const auto [begin, end] = part.split.rows_of(size, display_name(source));
    int64_t start = 0;
    for (auto& reader : readers) {
      const int64_t rows = reader->size();
      joined->add(std::move(reader), std::max(begin - start, int64_t{0}), std::min(end - start, rows));
      start += rows;
    }
  }
  return joined;
}

std::unique_ptr<DatasetReader> open_dataset(const DatasetSource& source, const DataCache& cache) {
  return open_dataset(source, find_dataset_files(source), cache);
}

std::unique_ptr<DatasetReader> open_dataset(const std::string& path) {
  return open_dataset(DatasetSource{.path = path}, DataCache({.directory = default_cache_directory()}));
}

std::unique_ptr<DatasetReader> rows_of(std::unique_ptr<DatasetReader> rows, int64_t begin, int64_t end) {
  SERVAL_CHECK(begin >= 0 && begin < end && end <= rows->size());
  auto part = std::make_unique<JoinedReader>(rows->path());
  part->add(std::move(rows), begin, end);
  return part;
}

}  // namespace serval
