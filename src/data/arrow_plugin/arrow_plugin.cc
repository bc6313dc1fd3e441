#include "data/arrow_plugin/arrow_plugin.h"

#include <arrow/api.h>
#include <arrow/io/api.h>
#include <arrow/ipc/api.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/arrow_plugin/arrow_json.h"

namespace serval::arrow_plugin {
namespace {

constexpr int64_t kBatchRows = 1024;
constexpr int64_t kBufferBytes = int64_t{1} << 20;  // of each column, instead of a whole group of rows
// What the rows that are read at a time may take unpacked, whatever a file says of itself.
constexpr int64_t kMemoryLimit = int64_t{2} << 30;
constexpr int64_t kSmallFileLimit = int64_t{64} << 20, kMostUnpacked = 1000;

// Memory for one file, with a limit: a small one cannot ask for gigabytes. It stays for the life of the
// process, as Arrow's own threads may let go of a buffer after the file was closed.
class FilePool {
 public:
  static arrow::MemoryPool* of_file(int64_t file_size) {
    static std::mutex mutex;
    static auto& all = *new std::vector<std::unique_ptr<FilePool>>;
    const std::lock_guard lock(mutex);
    all.push_back(std::unique_ptr<FilePool>(new FilePool(file_size)));
    return &all.back()->limited_;
  }

 private:
  explicit FilePool(int64_t file_size)
      : counted_(arrow::system_memory_pool()),
        limited_(&counted_, std::min(kMemoryLimit,
                                     kSmallFileLimit + kMostUnpacked * std::min(file_size, kMemoryLimit))) {}
  arrow::ProxyMemoryPool counted_;
  arrow::CappedMemoryPool limited_;
};

void check(const arrow::Status& status) {
  if (status.IsOutOfMemory() || status.IsCapacityError())
    throw std::runtime_error("asks for more memory at a time than a file of its size should (" +
                             status.message() +
                             "); is it damaged? Else write it again with smaller groups of rows");
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
  explicit Groups(arrow::MemoryPool* pool) : pool_(pool) {}
  virtual ~Groups() = default;
  // First row of each group, and the number of rows.
  const std::vector<int64_t>& starts() const { return starts_; }
  // From the beginning of a group on to the end of the file.
  virtual void begin_at(size_t group) = 0;
  virtual Batch next() = 0;  // null at the end

 protected:
  void add_group(int64_t rows) {
    int64_t end = 0;
    if (rows < 0 || __builtin_add_overflow(starts_.back(), rows, &end))
      throw std::runtime_error("a group of rows says that it has " + std::to_string(rows) + " rows");
    starts_.push_back(end);
  }
  arrow::MemoryPool* pool() const { return pool_; }
  std::vector<int64_t> starts_ = {0};

 private:
  arrow::MemoryPool* pool_;
};

// Nothing in a footer is longer, or has more items, than the footer has bytes: lists that claim more are
// refused before room is made for them.
parquet::ReaderProperties properties_for(arrow::io::RandomAccessFile& file, arrow::MemoryPool* pool) {
  struct Tail {
    uint8_t length[4];
    char magic[4];
  } tail{};
  const int64_t size = take(file.GetSize());
  if (size < 12 || take(file.ReadAt(size - 8, sizeof tail, &tail)) != 8)
    throw std::runtime_error("ends before a Parquet footer; was the file cut off?");
  int64_t length = 0;
  for (int i = 3; i >= 0; --i) length = length << 8 | tail.length[i];
  if (std::string_view(tail.magic, 4) == "PARE") throw std::runtime_error("is encrypted, which is not read");
  if (std::string_view(tail.magic, 4) != "PAR1")
    throw std::runtime_error("does not end with a Parquet footer; was the file cut off?");
  if (length == 0 || length > size - 12)
    throw std::runtime_error("says that its footer has " + std::to_string(length) + " of the file's " +
                             std::to_string(size) + " bytes");
  parquet::ReaderProperties properties(pool);
  const auto limit = static_cast<int32_t>(std::min<int64_t>(length + (1 << 16), int64_t{100} << 20));
  properties.set_thrift_string_size_limit(limit);
  properties.set_thrift_container_size_limit(std::min(limit, 1'000'000));
  properties.enable_buffered_stream();
  properties.set_buffer_size(kBufferBytes);
  return properties;
}

class ParquetGroups final : public Groups {
 public:
  ParquetGroups(std::shared_ptr<arrow::io::RandomAccessFile> file, arrow::MemoryPool* memory)
      : Groups(memory) {
    parquet::arrow::FileReaderBuilder builder;
    const parquet::ReaderProperties read = properties_for(*file, pool());
    check(builder.Open(std::move(file), read));
    builder.memory_pool(pool());
    parquet::ArrowReaderProperties properties(/*use_threads=*/false);
    properties.set_batch_size(kBatchRows);
    properties.set_pre_buffer(false);
    builder.properties(properties);
    check(builder.Build(&reader_));
    const auto metadata = reader_->parquet_reader()->metadata();
    for (int group = 0; group < metadata->num_row_groups(); ++group)
      add_group(metadata->RowGroup(group)->num_rows());
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

arrow::ipc::IpcReadOptions ipc_options(arrow::MemoryPool* pool) {
  auto options = arrow::ipc::IpcReadOptions::Defaults();
  options.memory_pool = pool;
  options.use_threads = false;
  return options;
}

// Everything in a file of this kind is an offset that may lie: each batch is checked in full.
class ArrowFileGroups final : public Groups {
 public:
  ArrowFileGroups(const std::shared_ptr<arrow::io::RandomAccessFile>& file, arrow::MemoryPool* memory)
      : Groups(memory), reader_(take(arrow::ipc::RecordBatchFileReader::Open(file, ipc_options(pool())))) {
    for (int i = 0; i < reader_->num_record_batches(); ++i)
      add_group(take(reader_->ReadRecordBatch(i))->num_rows());
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
  ArrowStreamGroups(std::shared_ptr<arrow::io::RandomAccessFile> file, arrow::MemoryPool* memory)
      : Groups(memory), file_(std::move(file)) {
    begin_at(0);
    while (const Batch batch = next()) add_group(batch->num_rows());
  }
  void begin_at(size_t group) override {
    check(file_->Seek(0));
    reader_ = take(arrow::ipc::RecordBatchStreamReader::Open(file_, ipc_options(pool())));
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
  struct stat status {};
  arrow::MemoryPool* pool = FilePool::of_file(::stat(path, &status) == 0 ? status.st_size : 0);
  const std::shared_ptr<arrow::io::RandomAccessFile> file = take(arrow::io::ReadableFile::Open(path, pool));
  char magic[6] = {};
  const int64_t got = take(file->ReadAt(0, sizeof magic, magic));
  const std::string_view text(magic, static_cast<size_t>(got));
  if (text.starts_with("PAR1")) return std::make_unique<ParquetGroups>(file, pool);
  if (text.starts_with("ARROW1")) return std::make_unique<ArrowFileGroups>(file, pool);
  if (text.starts_with("\xFF\xFF\xFF\xFF")) return std::make_unique<ArrowStreamGroups>(file, pool);
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
