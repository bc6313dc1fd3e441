#include "data/arrow_plugin/arrow_plugin.h"

#include <arrow/api.h>
#include <arrow/io/api.h>
#include <arrow/ipc/api.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/arrow_plugin/arrow_json.h"

namespace serval::arrow_plugin {
namespace {

constexpr int64_t kBatchRows = 1024;

void check(const arrow::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

template <class T>
T take(arrow::Result<T> result) {
  check(result.status());
  return std::move(result).ValueUnsafe();
}

using Batch = std::shared_ptr<arrow::RecordBatch>;

// Groups of rows (of a Parquet file, or the batches of an Arrow file) that are read as streams of batches.
class Groups {
 public:
  virtual ~Groups() = default;
  // First row of each group, and the number of rows.
  const std::vector<int64_t>& starts() const { return starts_; }
  // From the beginning of a group on to the end of the file.
  virtual void begin_at(size_t group) = 0;
  virtual Batch next() = 0;  // null at the end

 protected:
  std::vector<int64_t> starts_ = {0};
};

class ParquetGroups final : public Groups {
 public:
  explicit ParquetGroups(std::shared_ptr<arrow::io::RandomAccessFile> file) {
    parquet::arrow::FileReaderBuilder builder;
    check(builder.Open(std::move(file)));
    parquet::ArrowReaderProperties properties(/*use_threads=*/false);
    properties.set_batch_size(kBatchRows);
    properties.set_pre_buffer(false);
    builder.properties(properties);
    check(builder.Build(&reader_));
    const auto metadata = reader_->parquet_reader()->metadata();
    for (int group = 0; group < metadata->num_row_groups(); ++group) {
      const int64_t rows = metadata->RowGroup(group)->num_rows();
      if (rows < 0) throw std::runtime_error("a group of rows has a negative size");
      starts_.push_back(starts_.back() + rows);
    }
  }
  void begin_at(size_t group) override {
    std::vector<int> groups;
    for (int i = static_cast<int>(group); i + 1 < static_cast<int>(starts_.size()); ++i) groups.push_back(i);
    stream_ = take(reader_->GetRecordBatchReader(groups));
  }
  Batch next() override {
    Batch batch;
    check(stream_->ReadNext(&batch));
    if (batch) check(batch->Validate());
    return batch;
  }

 private:
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::shared_ptr<arrow::RecordBatchReader> stream_;
};

// Everything in a file of this kind is an offset that may lie: each batch is checked in full.
class ArrowFileGroups final : public Groups {
 public:
  explicit ArrowFileGroups(const std::shared_ptr<arrow::io::RandomAccessFile>& file)
      : reader_(take(arrow::ipc::RecordBatchFileReader::Open(file))) {
    for (int i = 0; i < reader_->num_record_batches(); ++i)
      starts_.push_back(starts_.back() + take(reader_->ReadRecordBatch(i))->num_rows());
  }
  void begin_at(size_t group) override { next_ = static_cast<int>(group); }
  Batch next() override {
    if (next_ >= reader_->num_record_batches()) return nullptr;
    Batch batch = take(reader_->ReadRecordBatch(next_++));
    check(batch->ValidateFull());
    return batch;
  }

 private:
  std::shared_ptr<arrow::ipc::RecordBatchFileReader> reader_;
  int next_ = 0;
};

class ArrowStreamGroups final : public Groups {
 public:
  explicit ArrowStreamGroups(std::shared_ptr<arrow::io::RandomAccessFile> file) : file_(std::move(file)) {
    begin_at(0);
    while (const Batch batch = next()) starts_.push_back(starts_.back() + batch->num_rows());
  }
  void begin_at(size_t group) override {
    check(file_->Seek(0));
    reader_ = take(arrow::ipc::RecordBatchStreamReader::Open(file_));
    for (size_t i = 0; i < group; ++i) next();
  }
  Batch next() override {
    Batch batch;
    check(reader_->ReadNext(&batch));
    if (batch) check(batch->ValidateFull());
    return batch;
  }

 private:
  std::shared_ptr<arrow::io::RandomAccessFile> file_;
  std::shared_ptr<arrow::ipc::RecordBatchStreamReader> reader_;
};

std::unique_ptr<Groups> open_groups(const char* path) {
  const std::shared_ptr<arrow::io::RandomAccessFile> file =
      take(arrow::io::ReadableFile::Open(path, arrow::system_memory_pool()));
  char magic[6] = {};
  const int64_t got = take(file->ReadAt(0, sizeof magic, magic));
  const std::string_view text(magic, static_cast<size_t>(got));
  if (text.starts_with("PAR1")) return std::make_unique<ParquetGroups>(file);
  if (text.starts_with("ARROW1")) return std::make_unique<ArrowFileGroups>(file);
  if (text.starts_with("\xFF\xFF\xFF\xFF")) return std::make_unique<ArrowStreamGroups>(file);
  if (text.starts_with("FEA1"))
    throw std::runtime_error("is Feather V1; write it again as Feather V2 or Parquet");
  throw std::runtime_error("is neither Parquet nor Arrow");
}

void put_error(const char* text, char* error, size_t size) {
  if (size == 0) return;
  std::string line(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  const size_t length = std::min(line.size(), size - 1);
  std::memcpy(error, line.data(), length);
  error[length] = '\0';
}

}  // namespace
}  // namespace serval::arrow_plugin

struct ServalArrowTable {
  std::unique_ptr<serval::arrow_plugin::Groups> groups;
  serval::arrow_plugin::Batch batch;  // rows [batch_begin, batch_begin + num_rows) of the file
  int64_t batch_begin = 0;

  int64_t rows() const { return groups->starts().back(); }

  // Makes `batch` the one that holds the row.
  void seek(int64_t row) {
    const auto& starts = groups->starts();
    const auto group =
        static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), row) - starts.begin()) - 1;
    if (!batch || row < batch_begin || starts[group] > batch_begin + batch->num_rows()) {
      groups->begin_at(group);
      batch_begin = starts[group];
      batch = groups->next();
    }
    while (batch && row >= batch_begin + batch->num_rows()) {
      batch_begin += batch->num_rows();
      batch = groups->next();
    }
    if (!batch)
      throw std::runtime_error("ends before row " + std::to_string(row + 1) + " of those that it promises");
  }
};

int serval_arrow_version(void) {
  return SERVAL_ARROW_PLUGIN_VERSION;
}

ServalArrowTable* serval_arrow_open(const char* path, char* error, size_t error_size) {
  try {
    auto table = std::make_unique<ServalArrowTable>();
    table->groups = serval::arrow_plugin::open_groups(path);
    return table.release();
  } catch (const std::exception& failure) {
    serval::arrow_plugin::put_error(failure.what(), error, error_size);
    return nullptr;
  }
}

void serval_arrow_close(ServalArrowTable* table) {
  delete table;
}

int64_t serval_arrow_rows(const ServalArrowTable* table) {
  return table->rows();
}

int serval_arrow_read(ServalArrowTable* table, int64_t begin, int64_t count, ServalArrowWrite write,
                      void* context, char* error, size_t error_size) {
  try {
    std::string line;
    for (int64_t row = begin; row < begin + count; ++row) {
      table->seek(row);
      line.clear();
      serval::arrow_plugin::write_row(*table->batch, row - table->batch_begin, line);
      write(context, line.data(), line.size());
    }
    return 0;
  } catch (const std::exception& failure) {
    table->batch.reset();
    serval::arrow_plugin::put_error(failure.what(), error, error_size);
    return -1;
  }
}
