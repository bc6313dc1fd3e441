#include "formats/safetensors.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace serval {
namespace {

struct FormatType {
  const char* name;
  uint64_t bits;
  std::optional<DType> dtype;
};

const FormatType kTypes[] = {{"BOOL", 8, std::nullopt},
                             {"F4", 4, std::nullopt},
                             {"F6_E2M3", 6, std::nullopt},
                             {"F6_E3M2", 6, std::nullopt},
                             {"U8", 8, DType::u8},
                             {"I8", 8, std::nullopt},
                             {"F8_E5M2", 8, std::nullopt},
                             {"F8_E4M3", 8, std::nullopt},
                             {"F8_E8M0", 8, std::nullopt},
                             {"F8_E4M3FNUZ", 8, std::nullopt},
                             {"F8_E5M2FNUZ", 8, std::nullopt},
                             {"I16", 16, std::nullopt},
                             {"U16", 16, std::nullopt},
                             {"F16", 16, DType::f16},
                             {"BF16", 16, DType::bf16},
                             {"I32", 32, DType::i32},
                             {"U32", 32, std::nullopt},
                             {"F32", 32, DType::f32},
                             {"C64", 64, std::nullopt},
                             {"F64", 64, DType::f64},
                             {"I64", 64, DType::i64},
                             {"U64", 64, std::nullopt}};

const FormatType* type_of(std::string_view name) {
  for (const auto& type : kTypes)
    if (name == type.name) return &type;
  return nullptr;
}

const char* format_name(DType dtype) {
  for (const auto& type : kTypes)
    if (type.dtype == dtype) return type.name;
  return "";
}

constexpr uint64_t kMaxHeader = 100'000'000;

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), file_(path) {
  const auto bytes = file_.bytes();
  if (bytes.size() < 8) fail("{}: {} bytes are too few for a safetensors file", path, bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeader)
    fail("{}: a header of {} bytes is no safetensors file's (at most 100 MB)", path, length);
  if (length > bytes.size() - 8)
    fail("{}: the header says {} bytes but the file has {} after it; the file is cut off or damaged", path,
         length, bytes.size() - 8);
  parse({reinterpret_cast<const char*>(bytes.data()) + 8, length}, 8 + length);
}

void SafetensorsFile::parse(std::string_view header, uint64_t data_begin) {
  using namespace simdjson;
  if (header.empty() || header[0] != '{') fail("{}: the header does not begin with '{{'", path_);
  dom::parser parser;
  const padded_string padded(header);
  if (parser.allocate(std::max<size_t>(header.size(), 64), 16) != SUCCESS)
    fail("{}: the header is too large", path_);
  dom::element root;
  if (const auto error = parser.parse(padded).get(root); error != SUCCESS)
    fail("{}: the header is not valid JSON: {}", path_, error_message(error));
  dom::object object;
  if (root.get(object) != SUCCESS) fail("{}: the header is no JSON object", path_);
  const uint64_t data_bytes = file_.bytes().size() - data_begin;
  bool has_metadata = false;
  for (const auto field : object) {
    const std::string name(field.key);
    dom::object value;
    if (field.value.get(value) != SUCCESS) fail("{}: the header's entry '{}' is no object", path_, name);
    if (name == "__metadata__") {
      if (std::exchange(has_metadata, true)) fail("{}: the header has __metadata__ twice", path_);
      for (const auto item : value) {
        std::string_view text;
        if (item.value.get(text) != SUCCESS) fail("{}: __metadata__ '{}' is no string", path_, item.key);
        if (!metadata_.emplace(std::string(item.key), std::string(text)).second)
          fail("{}: __metadata__ has the key '{}' twice", path_, item.key);
      }
      continue;
    }
    SafetensorsEntry entry;
    entry.name = name;
    std::string_view dtype;
    dom::array dims, offsets;
    int known = 0;
    for (const auto member : value) {
      if (member.key == "dtype")
        known += member.value.get(dtype) == SUCCESS ? 1 : 0;
      else if (member.key == "shape")
        known += member.value.get(dims) == SUCCESS ? 1 : 0;
      else if (member.key == "data_offsets")
        known += member.value.get(offsets) == SUCCESS ? 1 : 0;
      else
        fail("{}: tensor '{}' has the unknown key '{}'", path_, name, member.key);
    }
    if (known != 3 || value.size() != 3)
      fail("{}: tensor '{}' needs dtype, shape and data_offsets, each once", path_, name);
    const FormatType* type = type_of(dtype);
    if (type == nullptr) fail("{}: tensor '{}' has the unknown type '{}'", path_, name, dtype);
    entry.format_dtype = type->name;
    entry.dtype = type->dtype;
    uint64_t bits = type->bits;
    for (const auto dim : dims) {
      uint64_t size = 0;
      if (dim.get(size) != SUCCESS || size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        fail("{}: tensor '{}' has a dimension that is no size", path_, name);
      if (__builtin_mul_overflow(bits, size, &bits))
        fail("{}: tensor '{}' has a shape too large to be real", path_, name);
      entry.dims.push_back(static_cast<int64_t>(size));
    }
    uint64_t ends[2] = {0, 0};
    size_t count = 0;
    for (const auto offset : offsets)
      if (count >= 2 || offset.get(ends[count++]) != SUCCESS)
        fail("{}: tensor '{}' has wrong data_offsets", path_, name);
    if (count != 2 || ends[0] > ends[1] || ends[1] > data_bytes)
      fail("{}: tensor '{}' claims bytes {} to {} of {}; the file is cut off or damaged", path_, name,
           ends[0], ends[1], data_bytes);
    if (bits % 8 != 0 || bits / 8 != ends[1] - ends[0])
      fail("{}: tensor '{}' has {} bytes, but its shape and type need {}", path_, name, ends[1] - ends[0],
           (bits + 7) / 8);
    entry.begin = data_begin + ends[0];
    entry.end = data_begin + ends[1];
    entries_.push_back(std::move(entry));
  }
  std::stable_sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = data_begin;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const auto& entry = entries_[i];
    if (entry.begin != at)
      fail("{}: tensor '{}' leaves a {} in the data", path_, entry.name,
           entry.begin > at ? "hole" : "overlap");
    at = entry.end;
    if (!index_.emplace(entry.name, i).second) fail("{}: the tensor '{}' appears twice", path_, entry.name);
  }
  if (at != file_.bytes().size())
    fail("{}: {} bytes after the last tensor belong to none", path_, file_.bytes().size() - at);
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

Shape shape_of(const SafetensorsEntry& entry, const std::string& path) {
  switch (entry.dims.size()) {
    case 0:
      return {1};
    case 1:
      return {entry.dims[0]};
    case 2:
      return {entry.dims[0], entry.dims[1]};
    case 3:
      return {entry.dims[0], entry.dims[1], entry.dims[2]};
    case 4:
      return {entry.dims[0], entry.dims[1], entry.dims[2], entry.dims[3]};
    default:
      fail("{}: tensor '{}' has {} dimensions, more than any model's", path, entry.name, entry.dims.size());
  }
}

void SafetensorsFile::read_rows(const SafetensorsEntry& entry, int64_t row_begin, int64_t row_count,
                                void* target, DType target_dtype, int64_t row_stride) const {
  if (!entry.dtype)
    fail("{}: tensor '{}' is {}, which cannot be read as numbers", path_, entry.name, entry.format_dtype);
  if (*entry.dtype != target_dtype && !(is_floating(*entry.dtype) && is_floating(target_dtype)))
    fail("{}: tensor '{}' is {}, expected {}", path_, entry.name, entry.format_dtype, name_of(target_dtype));
  const Shape shape = shape_of(entry, path_);
  SERVAL_CHECK(row_begin >= 0 && row_count >= 0 && row_begin + row_count <= shape.rows());
  const int64_t width = shape.row_size(), element = size_of(*entry.dtype);
  const std::byte* source =
      file_.bytes().data() + entry.begin + static_cast<uint64_t>(row_begin * width * element);
  // Tensors need not be aligned: elements are copied before they are converted.
  constexpr int64_t kChunk = 1 << 16;
  std::vector<std::byte> aligned(static_cast<size_t>(kChunk * element));
  for (int64_t row = 0; row < row_count; ++row) {
    char* out = static_cast<char*>(target) + row * row_stride * size_of(target_dtype);
    for (int64_t i = 0; i < width; i += kChunk) {
      const int64_t count = std::min(kChunk, width - i);
      const std::byte* in = source + (row * width + i) * element;
      if (*entry.dtype == target_dtype) {
        std::memcpy(out + i * element, in, static_cast<size_t>(count * element));
      } else {
        std::memcpy(aligned.data(), in, static_cast<size_t>(count * element));
        convert_elements(aligned.data(), *entry.dtype, out + i * size_of(target_dtype), target_dtype, count);
      }
    }
    const int64_t done = (row + 1) * width * element;
    // Release what was read every few megabytes.
    if (done / (8 << 20) != row * width * element / (8 << 20))
      file_.forget(entry.begin + static_cast<uint64_t>(row_begin * width * element),
                   static_cast<size_t>(done));
  }
  file_.forget(entry.begin + static_cast<uint64_t>(row_begin * width * element),
               static_cast<size_t>(row_count * width * element));
}

void SafetensorsFile::read(const SafetensorsEntry& entry, void* target, DType target_dtype) const {
  const Shape shape = shape_of(entry, path_);
  read_rows(entry, 0, shape.rows(), target, target_dtype, shape.row_size());
}

void SafetensorsWriter::add(std::string name, DType dtype, Shape shape, Fill fill) {
  tensors_.push_back({std::move(name), dtype, shape, std::move(fill)});
}

int64_t SafetensorsWriter::data_bytes() const {
  int64_t bytes = 0;
  for (const auto& t : tensors_) bytes += t.shape.elements() * size_of(t.dtype);
  return bytes;
}

void SafetensorsWriter::write() {
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
    return size_of(a.dtype) != size_of(b.dtype) ? size_of(a.dtype) > size_of(b.dtype) : a.name < b.name;
  });
  std::string header = "{\"__metadata__\":{";
  bool first = true;
  for (const auto& [key, value] : metadata_) {
    header += (first ? "" : ",") + json_quote(key) + ":" + json_quote(value);
    first = false;
  }
  header += "}";
  int64_t offset = 0, largest = 0;
  for (const auto& t : tensors_) {
    const int64_t bytes = t.shape.elements() * size_of(t.dtype);
    header += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[", json_quote(t.name), format_name(t.dtype));
    for (int axis = 0; axis < t.shape.rank(); ++axis)
      header += (axis > 0 ? "," : "") + std::to_string(t.shape[axis]);
    header += fmt::format("],\"data_offsets\":[{},{}]}}", offset, offset + bytes);
    offset += bytes;
    largest = std::max(largest, bytes);
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  AtomicFile file(path_);
  const uint64_t length = header.size();
  file.write(std::string_view(reinterpret_cast<const char*>(&length), 8));
  file.write(header);
  std::vector<std::byte> buffer(static_cast<size_t>(largest));
  for (const auto& t : tensors_) {
    const auto bytes = std::span(buffer).first(static_cast<size_t>(t.shape.elements() * size_of(t.dtype)));
    t.fill(bytes.data());
    file.write(bytes);
  }
  file.commit();
}

}  // namespace serval
