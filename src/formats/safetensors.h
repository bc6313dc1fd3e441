// The safetensors format, by its strict rules: header length at most 100 MB and inside the file, UTF-8 JSON
// that begins with '{', no duplicate names, __metadata__ of strings alone, every tensor's bytes equal to its
// shape and type, and tensors that cover the rest of the file without holes or overlaps. A file that breaks
// one is a UserError that names it.
//
//   SafetensorsFile file("model.safetensors");
//   const SafetensorsEntry& e = file.at("model.norm.weight");
//   file.read_rows(e, 0, e.dims[0], target, DType::bf16, row_stride);
//
//   SafetensorsWriter writer("out.safetensors");
//   writer.add("a", DType::f32, {2, 3}, [&](void* target) { ... });   // called when the file is written
//   writer.write();
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace serval {

struct SafetensorsEntry {
  std::string name;
  std::string format_dtype;    // as the file says: "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  // absent for types that Serval does not compute with
  std::vector<int64_t> dims;
  uint64_t begin = 0, end = 0;  // bytes of the file
};

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  const std::string& path() const { return path_; }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }  // in the order of their bytes
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const SafetensorsEntry* find(std::string_view name) const;  // nullptr where there is none
  const SafetensorsEntry& at(std::string_view name) const;    // else a UserError
  // As they lie in the file, perhaps unaligned.
  std::span<const std::byte> bytes(const SafetensorsEntry& entry) const;

  // Elements [first, first + count) of a tensor, dense, converted; several threads read. A large file never
  // stays in resident memory.
  void read_elements(const SafetensorsEntry& entry, int64_t first, int64_t count, void* target,
                     DType target_dtype) const;
  // Rows of a tensor, converted; `row_stride` in elements of the target.
  void read_rows(const SafetensorsEntry& entry, int64_t row_begin, int64_t row_count, void* target,
                 DType target_dtype, int64_t row_stride) const;
  // The whole tensor, dense.
  void read(const SafetensorsEntry& entry, void* target, DType target_dtype) const;

 private:
  void parse(std::string_view header, uint64_t data_begin);
  void check_cover(uint64_t data_begin);
  std::string path_;
  MappedFile file_;
  FileReader reader_;  // of the same file: what is read by it takes no pages of the process
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

// The shape of an entry; UserError where it has more than four dimensions.
Shape shape_of(const SafetensorsEntry& entry, const std::string& path);

class SafetensorsWriter {
 public:
  using Fill = std::function<void(void* target)>;  // writes the dense tensor
  using FillRows = std::function<void(int64_t row_begin, int64_t row_count, void* target)>;

  explicit SafetensorsWriter(std::string path) : path_(std::move(path)) {}
  void add(std::string name, DType dtype, Shape shape, Fill fill);
  // For large tensors: asked for a few megabytes of rows at a time, so that the whole is never held.
  void add_rows(std::string name, DType dtype, Shape shape, FillRows fill);
  void add_metadata(std::string key, std::string value) { metadata_[std::move(key)] = std::move(value); }
  int64_t data_bytes() const;
  // In the order of the reference writer: largest types first, then by name. The file appears whole or not
  // at all.
  void write();

 private:
  struct Tensor {
    std::string name;
    DType dtype;
    Shape shape;
    FillRows fill;
    bool by_rows = false;
    int64_t bytes() const { return shape.elements() * size_of(dtype); }
    int64_t rows_at_once() const;
  };
  std::string header() const;
  std::string path_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::string> metadata_ = {{"format", "pt"}};
};

}  // namespace serval
