// The header of a GGUF file (versions 2 and 3): its keys and values, and where its tensors lie. Everything is
// checked against the size of the file before it is believed, so the header of any file is read in time and
// memory of the order of the file's own size.
//
//   GgufMetadata gguf = GgufMetadata::open("model.gguf");
//   std::string_view model = gguf.string("tokenizer.ggml.model");
//   std::vector<std::string_view> tokens = gguf.strings("tokenizer.ggml.tokens");
//   if (const GgufValue* value = gguf.find("general.name")) ...
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"

namespace serval {

enum class GgufType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
const char* name_of(GgufType type);

// A value lies in the bytes of the file, which must outlive it.
struct GgufValue {
  GgufType type = GgufType::kU8;  // of the value, or of an array's elements
  bool is_array = false;
  uint64_t count = 1;      // elements of an array
  std::string_view bytes;  // a string's text; else the elements as they lie in the file
};

struct GgufTensor {
  std::string_view name;
  std::vector<uint64_t> shape;  // the first is the fastest
  uint32_t type = 0;            // as in ggml.h
  uint64_t begin = 0;           // byte of the file
};

class GgufMetadata {
 public:
  // Maps the file. UserErrors name the path, the byte and what was expected there.
  static GgufMetadata open(const std::string& path);
  // `bytes` must outlive the result.
  static GgufMetadata parse(std::span<const std::byte> bytes, const std::string& where);

  const std::string& where() const { return where_; }
  uint32_t version() const { return version_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const std::vector<std::string_view>& keys() const { return keys_; }  // in the order of the file
  const GgufValue* find(std::string_view key) const;

  // Values by key; a UserError where the key is absent (the first three) or of another type.
  std::string_view string(std::string_view key) const;
  std::vector<std::string_view> strings(std::string_view key) const;
  int64_t integer(std::string_view key) const;  // any integer type; a u64 above 2^63 is an error
  std::optional<std::string_view> find_string(std::string_view key) const;
  std::optional<int64_t> find_integer(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  // Arrays of numbers: any integer type; f32, f64 or i32. Empty where absent.
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;
  // The raw bytes of an array of u8 or i8; empty where absent.
  std::string_view byte_array(std::string_view key) const;

 private:
  class Reader;
  const GgufValue& at(std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view key, const GgufValue& value, const char* expected) const;

  MappedFile file_;
  std::string where_;
  uint32_t version_ = 0;
  std::vector<std::string_view> keys_;
  std::unordered_map<std::string_view, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace serval
