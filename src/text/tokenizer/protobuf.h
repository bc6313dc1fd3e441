// Steps through the fields of a protobuf message in its wire format, without a schema. Nothing is copied, and
// no length is believed before it is checked.
//
//   ProtobufReader reader(bytes, "tokenizer.model");
//   while (reader.next())
//     if (reader.field() == 1) pieces.push_back(read_piece(reader.bytes()));
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace serval {

class ProtobufReader {
 public:
  ProtobufReader(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  // Moves to the next field; false at the end. A UserError where the bytes are no message.
  bool next();
  uint32_t field() const { return field_; }

  // The value of the field, which must be of that kind.
  int64_t integer() const;  // also bool and enum
  bool boolean() const { return integer() != 0; }
  float number() const;
  std::string_view bytes() const;

 private:
  enum class Wire : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  uint64_t varint();
  std::string_view take(uint64_t size);
  void expect(Wire wire) const;

  std::string_view rest_;
  const std::string& where_;
  uint32_t field_ = 0;
  Wire wire_ = Wire::kVarint;
  uint64_t value_ = 0;
  std::string_view bytes_;
};

}  // namespace serval
