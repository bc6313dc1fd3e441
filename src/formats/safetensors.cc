#include "formats/safetensors.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"

namespace serval {
namespace {

namespace dom = simdjson::dom;

struct FormatType {
  const char* name;
  uint64_t bits;
  std::optional<DType> dtype;
};

// In the order of the reference implementation, whose writer puts the later ones first.
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

const FormatType& type_of(DType dtype) {
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const FormatType& candidate) { return candidate.dtype == dtype; });
  SERVAL_CHECK(type != std::end(kTypes), "safetensors has no type {}", name_of(dtype));
  return *type;
}

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr int64_t kChunkBytes = 8 << 20;  // written at a time

std::map<std::string, std::string> parse_metadata(const dom::element& value, const std::string& path) {
  dom::object object;
  if (value.get(object) != simdjson::SUCCESS) fail("{}: __metadata__ is no object", path);
  std::map<std::string, std::string> metadata;
  for (const auto item : object) {
    std::string_view text;
    if (item.value.get(text) != simdjson::SUCCESS)
      fail("{}: __metadata__ {} is no string", path, in_quotes(item.key));
    if (!metadata.emplace(std::string(item.key), std::string(text)).second)
      fail("{}: __metadata__ has the key {} twice", path, in_quotes(item.key));
  }
  return metadata;
}

// The bits that a shape needs; nullopt where 64 bits cannot count them.
std::optional<uint64_t> bits_of(const std::vector<int64_t>& dims, uint64_t element_bits) {
  uint64_t elements = 1, bits = 0;
  for (const int64_t dim : dims)
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(dim), &elements)) return std::nullopt;
  if (__builtin_mul_overflow(elements, element_bits, &bits)) return std::nullopt;
  return bits;
}

// One tensor of the header. Its bytes are given relative to the data; `data_bytes` is all there is.
SafetensorsEntry parse_entry(std::string_view name, const dom::element& value, uint64_t data_bytes,
                             const std::string& path) {
  const std::string where = fmt::format("{}: tensor {}", path, in_quotes(name));
  dom::object object;
  if (value.get(object) != simdjson::SUCCESS) fail("{} is no object", where);
  std::string_view dtype;
  dom::array dims, offsets;
  int dtypes = 0, shapes = 0, offset_pairs = 0;
  for (const auto member : object) {
    bool right = true;  // unknown keys are passed over, as by the reference reader
    if (member.key == "dtype") {
      right = member.value.get(dtype) == simdjson::SUCCESS && ++dtypes == 1;
    } else if (member.key == "shape") {
      right = member.value.get(dims) == simdjson::SUCCESS && ++shapes == 1;
    } else if (member.key == "data_offsets") {
      right = member.value.get(offsets) == simdjson::SUCCESS && ++offset_pairs == 1;
    }
    if (!right) fail("{} has {} twice or of the wrong type", where, in_quotes(member.key));
  }
  if (dtypes + shapes + offset_pairs != 3) fail("{} lacks one of dtype, shape and data_offsets", where);

  SafetensorsEntry entry;
  entry.name = name;
  const FormatType* type = type_of(dtype);
  if (type == nullptr) fail("{} has the unknown type {}", where, in_quotes(dtype));
  entry.format_dtype = type->name;
  entry.dtype = type->dtype;
  for (const auto dim : dims) {
    uint64_t size = 0;
    if (dim.get(size) != simdjson::SUCCESS ||
        size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      fail("{} has a dimension that is no size", where);
    entry.dims.push_back(static_cast<int64_t>(size));
  }
  uint64_t ends[2] = {0, 0};
  size_t count = 0;
  for (const auto offset : offsets)
    if (count == 2 || offset.get(ends[count++]) != simdjson::SUCCESS)
      fail("{} has wrong data_offsets", where);
  if (count != 2 || ends[0] > ends[1] || ends[1] > data_bytes)
    fail("{} claims the bytes {} to {} of {}; the file is cut off or damaged", where, ends[0], ends[1],
         data_bytes);
  const auto bits = bits_of(entry.dims, type->bits);
  if (!bits) fail("{} has a shape too large to be real", where);
  if (*bits % 8 != 0) fail("{} has a shape that ends inside a byte", where);
  if (*bits / 8 != ends[1] - ends[0])
    fail("{} has {} bytes, but its shape and type need {}", where, ends[1] - ends[0], *bits / 8);
  entry.begin = ends[0];
  entry.end = ends[1];
  return entry;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), file_(path), reader_(path) {
  const auto bytes = file_.bytes();
  if (bytes.size() < 8) fail("{}: {} bytes are too few for a safetensors file", path, bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeader)
    fail("{}: no safetensors file: its header would have {} bytes (at most 100 MB)", path, length);
  if (length > bytes.size() - 8)
    fail("{}: the header says {} bytes but the file has {} after it; the file is cut off or damaged", path,
         length, bytes.size() - 8);
  parse({reinterpret_cast<const char*>(bytes.data()) + 8, length}, 8 + length);
  check_cover(8 + length);
}

void SafetensorsFile::parse(std::string_view header, uint64_t data_begin) {
  if (header.empty() || header[0] != '{') fail("{}: the header does not begin with '{{'", path_);
  dom::parser parser;
  const simdjson::padded_string padded(header);
  dom::object object;
  if (const auto error = parser.parse(padded).get(object); error != simdjson::SUCCESS)
    fail("{}: the header is not valid JSON: {}", path_, simdjson::error_message(error));
  const uint64_t data_bytes = file_.bytes().size() - data_begin;
  bool has_metadata = false;
  for (const auto field : object) {
    if (field.key == "__metadata__") {
      if (std::exchange(has_metadata, true)) fail("{}: the header has __metadata__ twice", path_);
      metadata_ = parse_metadata(field.value, path_);
      continue;
    }
    SafetensorsEntry entry = parse_entry(field.key, field.value, data_bytes, path_);
    entry.begin += data_begin;
    entry.end += data_begin;
    entries_.push_back(std::move(entry));
  }
}

void SafetensorsFile::check_cover(uint64_t data_begin) {
  std::stable_sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = data_begin;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const auto& entry = entries_[i];
    if (!index_.emplace(entry.name, i).second)
      fail("{}: the tensor {} appears twice", path_, in_quotes(entry.name));
    if (entry.begin != at)
      fail("{}: there is {} before the tensor {}", path_,
           entry.begin > at ? "a hole in the data" : "an overlap", in_quotes(entry.name));
    at = entry.end;
  }
  if (at != file_.bytes().size())
    fail("{}: the last {} bytes belong to no tensor", path_, file_.bytes().size() - at);
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  if (entry == nullptr) fail("{}: the tensor {} is missing", path_, in_quotes(name));
  return *entry;
}

std::span<const std::byte> SafetensorsFile::bytes(const SafetensorsEntry& entry) const {
  return file_.bytes().subspan(entry.begin, entry.end - entry.begin);
}

Shape shape_of(const SafetensorsEntry& entry, const std::string& path) {
  const auto& d = entry.dims;
  // An empty tensor may have any other dimensions: their product need not fit 64 bits.
  uint64_t product = 1;
  for (const int64_t dim : d)
    if (dim > 0 && __builtin_mul_overflow(product, static_cast<uint64_t>(dim), &product))
      fail("{}: tensor {} has a shape too large to be real", path, in_quotes(entry.name));
  if (product > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    fail("{}: tensor {} has a shape too large to be real", path, in_quotes(entry.name));
  switch (d.size()) {
    case 0:
      return {};
    case 1:
      return {d[0]};
    case 2:
      return {d[0], d[1]};
    case 3:
      return {d[0], d[1], d[2]};
    case 4:
      return {d[0], d[1], d[2], d[3]};
    default:
      fail("{}: tensor {} has {} dimensions, expected at most 4", path, in_quotes(entry.name), d.size());
  }
}

void SafetensorsFile::read_elements(const SafetensorsEntry& entry, int64_t first, int64_t count, void* target,
                                    DType target_dtype) const {
  if (!entry.dtype)
    fail("{}: tensor {} is {}, which cannot be read as numbers", path_, in_quotes(entry.name),
         entry.format_dtype);
  const DType dtype = *entry.dtype;
  if (dtype != target_dtype && !(is_floating(dtype) && is_floating(target_dtype)))
    fail("{}: tensor {} is {}, expected {}", path_, in_quotes(entry.name), entry.format_dtype,
         name_of(target_dtype));
  const int64_t element = size_of(dtype), target_element = size_of(target_dtype);
  const auto bytes = static_cast<int64_t>(entry.end - entry.begin);
  SERVAL_CHECK(first >= 0 && count >= 0 && first <= bytes / element && count <= bytes / element - first);
  constexpr int64_t kGrain = 1 << 18, kConverted = 1 << 15;  // elements
  parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    auto* out = static_cast<std::byte*>(target);
    const auto offset = [&](int64_t i) { return entry.begin + static_cast<uint64_t>((first + i) * element); };
    if (dtype == target_dtype)
      return reader_.read(offset(begin), out + begin * element, static_cast<size_t>((end - begin) * element));
    std::vector<std::byte> part(static_cast<size_t>(std::min(kConverted, end - begin) * element));
    for (int64_t i = begin; i < end; i += kConverted) {
      const int64_t n = std::min(kConverted, end - i);
      reader_.read(offset(i), part.data(), static_cast<size_t>(n * element));
      convert_elements(part.data(), dtype, out + i * target_element, target_dtype, n);
    }
  });
}

void SafetensorsFile::read_rows(const SafetensorsEntry& entry, int64_t row_begin, int64_t row_count,
                                void* target, DType target_dtype, int64_t row_stride) const {
  const Shape shape = shape_of(entry, path_);
  SERVAL_CHECK(row_begin >= 0 && row_count >= 0 && row_begin <= shape.rows() &&
               row_count <= shape.rows() - row_begin);
  const int64_t width = shape.row_size();
  SERVAL_CHECK(row_stride >= width || row_count <= 1);
  if (row_stride == width || row_count <= 1)
    return read_elements(entry, row_begin * width, row_count * width, target, target_dtype);
  for (int64_t row = 0; row < row_count; ++row)
    read_elements(entry, (row_begin + row) * width, width,
                  static_cast<std::byte*>(target) + row * row_stride * size_of(target_dtype), target_dtype);
}

void SafetensorsFile::read(const SafetensorsEntry& entry, void* target, DType target_dtype) const {
  read_elements(entry, 0, shape_of(entry, path_).elements(), target, target_dtype);
}

void SafetensorsWriter::add(std::string name, DType dtype, Shape shape, Fill fill) {
  auto fill_all = [fill = std::move(fill)](int64_t, int64_t, void* target) { fill(target); };
  tensors_.push_back({std::move(name), dtype, shape, std::move(fill_all), false});
}

void SafetensorsWriter::add_rows(std::string name, DType dtype, Shape shape, FillRows fill) {
  tensors_.push_back({std::move(name), dtype, shape, std::move(fill), true});
}

int64_t SafetensorsWriter::data_bytes() const {
  int64_t bytes = 0;
  for (const auto& t : tensors_) bytes += t.bytes();
  return bytes;
}

int64_t SafetensorsWriter::Tensor::rows_at_once() const {
  if (!by_rows) return shape.rows();
  const int64_t row_bytes = std::max<int64_t>(shape.row_size() * size_of(dtype), 1);
  return std::min(shape.rows(), std::max<int64_t>(kChunkBytes / row_bytes, 1));
}

std::string SafetensorsWriter::header() const {
  std::string text = "{\"__metadata__\":{";
  bool first = true;
  for (const auto& [key, value] : metadata_) {
    text += (first ? "" : ",") + json_quote(key) + ":" + json_quote(value);
    first = false;
  }
  text += "}";
  int64_t offset = 0;
  for (const auto& t : tensors_) {
    text += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[", json_quote(t.name), type_of(t.dtype).name);
    for (int axis = 0; axis < t.shape.rank(); ++axis)
      text += (axis > 0 ? "," : "") + std::to_string(t.shape[axis]);
    text += fmt::format("],\"data_offsets\":[{},{}]}}", offset, offset + t.bytes());
    offset += t.bytes();
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

void SafetensorsWriter::write() {
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
    const FormatType &left = type_of(a.dtype), &right = type_of(b.dtype);
    return &left != &right ? &left > &right : a.name < b.name;
  });
  std::set<std::string_view> names;
  size_t largest = 0;
  for (const auto& t : tensors_) {
    SERVAL_CHECK(names.insert(t.name).second && t.name != "__metadata__", "tensor '{}' is written twice",
                 t.name);
    largest =
        std::max(largest, static_cast<size_t>(t.rows_at_once() * t.shape.row_size() * size_of(t.dtype)));
  }
  const std::string text = header();
  const uint64_t length = text.size();
  AtomicFile file(path_);
  file.write(std::string_view(reinterpret_cast<const char*>(&length), 8));
  file.write(text);
  std::vector<std::byte> buffer(largest);
  for (const auto& t : tensors_) {
    const int64_t rows = t.shape.rows(), step = t.rows_at_once();
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t count = std::min(step, rows - row);
      const int64_t bytes = count * t.shape.row_size() * size_of(t.dtype);
      t.fill(row, count, buffer.data());
      file.write(std::span<const std::byte>(buffer).first(static_cast<size_t>(bytes)));
    }
  }
  file.commit();
}

}  // namespace serval
