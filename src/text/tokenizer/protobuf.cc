#include "text/tokenizer/protobuf.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace serval {

uint64_t ProtobufReader::varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (rest_.empty()) fail("{}: the file ends inside a number", where_);
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  fail("{}: a number of more than ten bytes; this is no protobuf file", where_);
}

std::string_view ProtobufReader::take(uint64_t size) {
  if (size > rest_.size())
    fail("{}: a field of {} bytes where {} are left; the file is truncated or no protobuf file", where_, size,
         rest_.size());
  const std::string_view taken = rest_.substr(0, static_cast<size_t>(size));
  rest_.remove_prefix(static_cast<size_t>(size));
  return taken;
}

bool ProtobufReader::next() {
  if (rest_.empty()) return false;
  const uint64_t tag = varint();
  if (tag >> 32 != 0 || tag >> 3 == 0)
    fail("{}: a field with the tag {}; this is no protobuf file", where_, tag);
  field_ = static_cast<uint32_t>(tag >> 3);
  wire_ = static_cast<Wire>(tag & 7);
  switch (wire_) {
    case Wire::kVarint:
      value_ = varint();
      return true;
    case Wire::kFixed64:
      bytes_ = take(8);
      return true;
    case Wire::kBytes:
      bytes_ = take(varint());
      return true;
    case Wire::kFixed32:
      bytes_ = take(4);
      return true;
  }
  fail("{}: field {} has the unknown wire type {}; this is no protobuf file", where_, field_, tag & 7);
}

void ProtobufReader::expect(Wire wire) const {
  if (wire_ != wire)
    fail("{}: field {} has wire type {}, expected {}", where_, field_, static_cast<int>(wire_),
         static_cast<int>(wire));
}

int64_t ProtobufReader::integer() const {
  expect(Wire::kVarint);
  return static_cast<int64_t>(value_);
}

float ProtobufReader::number() const {
  expect(Wire::kFixed32);
  uint32_t bits = 0;
  std::memcpy(&bits, bytes_.data(), sizeof bits);
  return std::bit_cast<float>(bits);
}

std::string_view ProtobufReader::bytes() const {
  expect(Wire::kBytes);
  return bytes_;
}

}  // namespace serval
