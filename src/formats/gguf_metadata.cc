#include "formats/gguf_metadata.h"

#include <bit>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

constexpr const char* kTypeNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                      "bool", "string", "array", "u64", "i64", "f64"};
constexpr size_t kTypeBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr uint64_t kMaxNameBytes = 65535;
constexpr uint32_t kDefaultAlignment = 32;

// Elements and bytes of a block of each tensor type; {0, 0}: there is no such type; {1, 0}: a type whose size
// is not known here.
struct Block {
  uint32_t elements, bytes;
};
constexpr Block kBlocks[] = {
    {1, 4},    {1, 2},    {32, 18},   {32, 20},   {0, 0},     {0, 0},     {32, 22},   {32, 24},  {32, 34},
    {32, 36},  {256, 84}, {256, 110}, {256, 144}, {256, 176}, {256, 210}, {256, 292}, {256, 66}, {256, 74},
    {256, 98}, {256, 50}, {32, 18},   {256, 110}, {256, 82},  {256, 136}, {1, 1},     {1, 2},    {1, 4},
    {1, 8},    {1, 8},    {256, 56},  {1, 2},     {0, 0},     {0, 0},     {0, 0},     {256, 54}, {256, 66},
    {0, 0},    {0, 0},    {0, 0},     {32, 17},   {64, 36},   {1, 0},     {1, 0}};

// Numbers are little-endian, as are all machines that this runs on.
static_assert(std::endian::native == std::endian::little);
template <class T>
T load(std::string_view bytes, size_t index = 0) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

bool is_integer(GgufType type) {
  return type <= GgufType::kI32 || type == GgufType::kU64 || type == GgufType::kI64;
}

// Of an integer type; false for a u64 that does not fit.
bool integer_at(const GgufValue& value, size_t index, int64_t& out) {
  switch (value.type) {
    case GgufType::kU8:
      return out = load<uint8_t>(value.bytes, index), true;
    case GgufType::kI8:
      // NOLINTNEXTLINE(bugprone-signed-char-misuse): a number of 8 bits with its sign
      return out = load<int8_t>(value.bytes, index), true;
    case GgufType::kU16:
      return out = load<uint16_t>(value.bytes, index), true;
    case GgufType::kI16:
      return out = load<int16_t>(value.bytes, index), true;
    case GgufType::kU32:
      return out = load<uint32_t>(value.bytes, index), true;
    case GgufType::kI32:
      return out = load<int32_t>(value.bytes, index), true;
    default:
      out = load<int64_t>(value.bytes, index);
      return value.type == GgufType::kI64 || out >= 0;
  }
}

}  // namespace

const char* name_of(GgufType type) {
  return kTypeNames[static_cast<size_t>(type)];
}

class GgufMetadata::Reader {
 public:
  Reader(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}
  size_t at() const { return at_; }
  size_t left() const { return bytes_.size() - at_; }

  std::string_view take(uint64_t size, const char* what) {
    if (size > left())
      fail("{}: {} at byte {} needs {} bytes, but {} are left; the file is truncated or no GGUF", where_,
           what, at_, size, left());
    const std::string_view taken = bytes_.substr(at_, static_cast<size_t>(size));
    at_ += static_cast<size_t>(size);
    return taken;
  }
  template <class T>
  T number(const char* what) {
    return load<T>(take(sizeof(T), what));
  }
  std::string_view text(const char* what) {
    const auto size = number<uint64_t>(what);
    return take(size, what);
  }
  std::string_view name(const char* what) {
    const std::string_view name = text(what);
    if (name.empty() || name.size() > kMaxNameBytes)
      fail("{}: {} of {} bytes before byte {}, expected 1 to {}", where_, what, name.size(), at_,
           kMaxNameBytes);
    return name;
  }
  // Counts are believed only as far as the smallest entries would fit into the rest of the file.
  uint64_t count(const char* what, uint64_t smallest_entry) {
    const auto count = number<uint64_t>(what);
    if (count > bytes_.size() / smallest_entry)
      fail("{}: {} is {}, more than a file of {} bytes can hold", where_, what, count, bytes_.size());
    return count;
  }

  GgufType type(std::string_view key) {
    const auto type = number<uint32_t>("a value's type");
    if (type > static_cast<uint32_t>(GgufType::kF64))
      fail("{}: the value of {} at byte {} has the unknown type {}", where_, in_quotes(key), at_ - 4, type);
    return static_cast<GgufType>(type);
  }
  GgufValue value(std::string_view key) {
    GgufValue value;
    value.type = type(key);
    if (value.type == GgufType::kString) {
      value.bytes = text("a string");
    } else if (value.type != GgufType::kArray) {
      value.bytes = take(kTypeBytes[static_cast<size_t>(value.type)], "a value");
    } else {
      value.is_array = true;
      value.type = type(key);
      if (value.type == GgufType::kArray)
        fail("{}: the value of {} is a list of lists", where_, in_quotes(key));
      const bool of_strings = value.type == GgufType::kString;
      const size_t size = of_strings ? 8 : kTypeBytes[static_cast<size_t>(value.type)];
      value.count = number<uint64_t>("a list's length");
      if (value.count > left() / size)
        fail("{}: the list {} claims {} elements, but {} bytes are left", where_, in_quotes(key), value.count,
             left());
      const size_t begin = at_;
      if (of_strings) {
        for (uint64_t i = 0; i < value.count; ++i) text("a string");
        value.bytes = bytes_.substr(begin, at_ - begin);
      } else {
        value.bytes = take(value.count * size, "a list");
      }
    }
    if (value.type == GgufType::kBool)
      for (const char byte : value.bytes)
        if (byte != 0 && byte != 1)
          fail("{}: the value of {} is neither true nor false", where_, in_quotes(key));
    return value;
  }

  GgufTensor tensor() {
    GgufTensor tensor;
    tensor.name = name("a tensor's name");
    const auto dimensions = number<uint32_t>("a tensor's rank");
    if (dimensions > 4)
      fail("{}: the tensor {} has {} dimensions, at most 4 are allowed", where_, in_quotes(tensor.name),
           dimensions);
    for (uint32_t i = 0; i < dimensions; ++i) tensor.shape.push_back(number<uint64_t>("a tensor's shape"));
    tensor.type = number<uint32_t>("a tensor's type");
    if (tensor.type >= std::size(kBlocks) || kBlocks[tensor.type].elements == 0)
      fail("{}: the tensor {} has the unknown type {}", where_, in_quotes(tensor.name), tensor.type);
    tensor.begin = number<uint64_t>("a tensor's offset");
    return tensor;
  }

  // Turns the offset into a place of the file, and checks that the tensor lies inside.
  void place(GgufTensor& tensor, uint64_t data, uint64_t alignment) const {
    const Block block = kBlocks[tensor.type];
    const auto refuse = [&](const char* what) {
      fail("{}: the tensor {} {}", where_, in_quotes(tensor.name), what);
    };
    const uint64_t row = tensor.shape.empty() ? 1 : tensor.shape[0];
    if (row % block.elements != 0) refuse("has rows that are no whole number of blocks");
    uint64_t size = row / block.elements * block.bytes;
    if (row / block.elements > std::numeric_limits<uint64_t>::max() / 292) refuse("is too large");
    for (size_t i = 1; i < tensor.shape.size(); ++i)
      if (__builtin_mul_overflow(size, tensor.shape[i], &size)) refuse("is too large");
    if (tensor.begin % alignment != 0) refuse("does not start at a multiple of general.alignment");
    if (data > bytes_.size() || tensor.begin > bytes_.size() - data ||
        size > bytes_.size() - data - tensor.begin)
      refuse("reaches beyond the end of the file");
    tensor.begin += data;
  }

 private:
  std::string_view bytes_;
  const std::string& where_;
  size_t at_ = 0;
};

GgufMetadata GgufMetadata::open(const std::string& path) {
  MappedFile file(path);
  GgufMetadata metadata = parse(file.bytes(), path);
  metadata.file_ = std::move(file);
  return metadata;
}

GgufMetadata GgufMetadata::parse(std::span<const std::byte> bytes, const std::string& where) {
  GgufMetadata metadata;
  metadata.where_ = where;
  Reader reader({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, where);
  if (reader.left() < 4 || reader.take(4, "the magic") != "GGUF")
    fail("{}: no GGUF file: it does not start with \"GGUF\"", where);
  metadata.version_ = reader.number<uint32_t>("the version");
  if ((metadata.version_ & 0xFFFFu) == 0 && metadata.version_ != 0)
    fail("{}: a big-endian GGUF file, which is not supported", where);
  if (metadata.version_ < 2 || metadata.version_ > 3)
    fail("{}: GGUF version {}, expected 2 or 3", where, metadata.version_);
  const uint64_t tensors = reader.count("the number of tensors", 8 + 1 + 4 + 4 + 8);
  const uint64_t keys = reader.count("the number of keys", 8 + 1 + 4 + 1);
  for (uint64_t i = 0; i < keys; ++i) {
    const std::string_view key = reader.name("a key");
    const GgufValue value = reader.value(key);
    if (!metadata.values_.emplace(key, value).second)
      fail("{}: the key {} is there twice", where, in_quotes(key));
    metadata.keys_.push_back(key);
  }
  const int64_t alignment = metadata.find_integer("general.alignment").value_or(kDefaultAlignment);
  if (alignment < 1 || alignment > (1 << 30) || !std::has_single_bit(static_cast<uint64_t>(alignment)))
    fail("{}: general.alignment is {}, expected a power of two", where, alignment);
  std::unordered_set<std::string_view> names;
  for (uint64_t i = 0; i < tensors; ++i) {
    metadata.tensors_.push_back(reader.tensor());
    const std::string_view name = metadata.tensors_.back().name;
    if (!names.insert(name).second) fail("{}: the tensor {} is there twice", where, in_quotes(name));
  }
  const auto step = static_cast<uint64_t>(alignment);
  const uint64_t data = (reader.at() + step - 1) / step * step;
  for (GgufTensor& tensor : metadata.tensors_) reader.place(tensor, data, step);
  return metadata;
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const GgufValue& GgufMetadata::at(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) fail("{}: the key '{}' is missing", where_, key);
  return *value;
}

void GgufMetadata::wrong_type(std::string_view key, const GgufValue& value, const char* expected) const {
  fail("{}: {} is a {}{}, expected {}", where_, key, value.is_array ? "list of " : "", name_of(value.type),
       expected);
}

std::string_view GgufMetadata::string(std::string_view key) const {
  const GgufValue& value = at(key);
  if (value.is_array || value.type != GgufType::kString) wrong_type(key, value, "a string");
  return value.bytes;
}

std::vector<std::string_view> GgufMetadata::strings(std::string_view key) const {
  const GgufValue& value = at(key);
  if (!value.is_array || value.type != GgufType::kString) wrong_type(key, value, "a list of strings");
  std::vector<std::string_view> strings;
  strings.reserve(value.count);
  std::string_view rest = value.bytes;  // its lengths were checked when it was read
  for (uint64_t i = 0; i < value.count; ++i) {
    const auto size = load<uint64_t>(rest);
    strings.push_back(rest.substr(8, size));
    rest.remove_prefix(8 + size);
  }
  return strings;
}

int64_t GgufMetadata::integer(std::string_view key) const {
  const GgufValue& value = at(key);
  int64_t number = 0;
  if (value.is_array || !is_integer(value.type)) wrong_type(key, value, "an integer");
  if (!integer_at(value, 0, number)) fail("{}: {} is larger than 2^63", where_, key);
  return number;
}

std::optional<std::string_view> GgufMetadata::find_string(std::string_view key) const {
  return find(key) == nullptr ? std::nullopt : std::optional(string(key));
}

std::optional<int64_t> GgufMetadata::find_integer(std::string_view key) const {
  return find(key) == nullptr ? std::nullopt : std::optional(integer(key));
}

std::optional<bool> GgufMetadata::find_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GgufType::kBool) wrong_type(key, *value, "a bool");
  return value->bytes[0] != 0;
}

std::vector<int64_t> GgufMetadata::integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array || !is_integer(value->type)) wrong_type(key, *value, "a list of integers");
  std::vector<int64_t> numbers(value->count);
  for (size_t i = 0; i < numbers.size(); ++i)
    if (!integer_at(*value, i, numbers[i])) fail("{}: {}[{}] is larger than 2^63", where_, key, i);
  return numbers;
}

std::vector<double> GgufMetadata::numbers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array) wrong_type(key, *value, "a list of numbers");
  std::vector<double> numbers(value->count);
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (value->type == GgufType::kF32) {
      numbers[i] = load<float>(value->bytes, i);
    } else if (value->type == GgufType::kF64) {
      numbers[i] = load<double>(value->bytes, i);
    } else if (value->type == GgufType::kI32) {
      numbers[i] = load<int32_t>(value->bytes, i);
    } else {
      wrong_type(key, *value, "a list of f32");
    }
  }
  return numbers;
}

std::string_view GgufMetadata::byte_array(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array || (value->type != GgufType::kU8 && value->type != GgufType::kI8))
    wrong_type(key, *value, "a list of bytes");
  return value->bytes;
}

}  // namespace serval
