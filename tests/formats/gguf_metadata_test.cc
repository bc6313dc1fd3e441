#include "formats/gguf_metadata.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "support/test_data.h"

namespace serval {
namespace {

// Puts a file together.
struct Bytes {
  std::string text = "GGUF";
  template <class T>
  Bytes& number(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& string(std::string_view value) {
    number<uint64_t>(value.size());
    text += value;
    return *this;
  }
  Bytes& header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    return number(version).number(tensors).number(keys);
  }
};

GgufMetadata parse(const Bytes& bytes) {
  return GgufMetadata::parse(std::as_bytes(std::span(bytes.text.data(), bytes.text.size())), "test.gguf");
}

std::string error_of(const Bytes& bytes) {
  try {
    parse(bytes);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(GgufMetadata, ReadsValuesOfEveryType) {
  Bytes bytes;
  bytes.header(1, 6);
  bytes.string("a").number<uint32_t>(4).number<uint32_t>(7);
  bytes.string("b").number<uint32_t>(7).number<uint8_t>(1);
  bytes.string("c").number<uint32_t>(8).string("text");
  bytes.string("d").number<uint32_t>(9).number<uint32_t>(8).number<uint64_t>(2).string("x").string("");
  bytes.string("e").number<uint32_t>(9).number<uint32_t>(6).number<uint64_t>(2).number(1.5f).number(-2.0f);
  bytes.string("f")
      .number<uint32_t>(9)
      .number<uint32_t>(1)
      .number<uint64_t>(2)
      .number<int8_t>(-1)
      .number<int8_t>(2);
  bytes.string("w").number<uint32_t>(1).number<uint64_t>(3).number<uint32_t>(0).number<uint64_t>(0);
  bytes.text.resize((bytes.text.size() + 31) / 32 * 32);
  const size_t data = bytes.text.size();
  bytes.text.append(12, 'x');
  const GgufMetadata gguf = parse(bytes);
  EXPECT_EQ(gguf.integer("a"), 7);
  EXPECT_EQ(gguf.find_bool("b"), true);
  EXPECT_EQ(gguf.string("c"), "text");
  EXPECT_EQ(gguf.strings("d"), (std::vector<std::string_view>{"x", ""}));
  EXPECT_EQ(gguf.numbers("e"), (std::vector<double>{1.5, -2.0}));
  EXPECT_EQ(gguf.integers("f"), (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(gguf.byte_array("f"), "\xFF\x02");
  EXPECT_EQ(gguf.find_string("absent"), std::nullopt);
  EXPECT_EQ(gguf.keys().size(), 6u);
  ASSERT_EQ(gguf.tensors().size(), 1u);
  EXPECT_EQ(gguf.tensors()[0].begin, data);
  EXPECT_THROW((void)gguf.string("a"), UserError);
  EXPECT_THROW((void)gguf.integer("c"), UserError);
  EXPECT_THROW((void)gguf.find_bool("a"), UserError);
  EXPECT_THROW((void)gguf.string("absent"), UserError);
}

TEST(GgufMetadata, LyingHeadersEndInOneError) {
  const auto expect = [](const Bytes& bytes, const char* part) {
    const std::string error = error_of(bytes);
    EXPECT_NE(error.find(part), std::string::npos) << error;
  };
  expect(Bytes{.text = ""}, "no GGUF");
  expect(Bytes{.text = "GGML...."}, "no GGUF");
  expect(Bytes().header(0, 0, 1), "version 1");
  expect(Bytes().header(0, 0, 4), "version 4");
  expect(Bytes().header(0, 0, 0x03000000), "big-endian");
  expect(Bytes().header(uint64_t{1} << 60, 0), "number of tensors");
  expect(Bytes().header(0, uint64_t{1} << 60), "number of keys");
  expect(Bytes().header(0, 1).string("a").number<uint32_t>(13).number<uint64_t>(0), "unknown type");
  expect(Bytes().header(0, 1).string("a").number<uint32_t>(7).number<uint8_t>(2).number<uint64_t>(0),
         "neither true");
  expect(Bytes().header(0, 1).string("").number<uint32_t>(0).number<uint8_t>(2).number<uint64_t>(0),
         "a key of 0 bytes");
  expect(Bytes().header(0, 1).number<uint64_t>(~uint64_t{0}).number<uint64_t>(0), "a key");
  expect(Bytes().header(0, 1).string("a").number<uint32_t>(9).number<uint32_t>(9).number<uint64_t>(0),
         "list of lists");
  expect(Bytes().header(0, 1).string("a").number<uint32_t>(9).number<uint32_t>(10).number<uint64_t>(
             ~uint64_t{0}),
         "claims");
  expect(Bytes()
             .header(0, 2)
             .string("a")
             .number<uint32_t>(0)
             .number<uint8_t>(0)
             .string("a")
             .number<uint32_t>(0)
             .number<uint8_t>(0),
         "there twice");
  expect(Bytes().header(0, 1).string("general.alignment").number<uint32_t>(4).number<uint32_t>(24),
         "power of two");
  const auto tensor = [](uint32_t rank, std::vector<uint64_t> shape, uint32_t type, uint64_t offset) {
    Bytes bytes;
    bytes.header(1, 0).string("w").number(rank);
    for (const uint64_t size : shape) bytes.number(size);
    bytes.number(type).number(offset);
    bytes.text.resize(128);
    return bytes;
  };
  EXPECT_EQ(error_of(tensor(1, {16}, 0, 0)), "");
  expect(tensor(5, {1, 1, 1, 1, 1}, 0, 0), "5 dimensions");
  expect(tensor(1, {16}, 4, 0), "unknown type");
  expect(tensor(1, {16}, 999, 0), "unknown type");
  expect(tensor(1, {33}, 8, 0), "whole number of blocks");
  expect(tensor(1, {17}, 0, 0), "beyond the end");
  expect(tensor(1, {1}, 0, 4), "general.alignment");
  expect(tensor(1, {1}, 0, uint64_t{1} << 63), "beyond the end");
  expect(tensor(2, {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0), "too large");
  expect(tensor(1, {~uint64_t{0}}, 0, 0), "too large");
}

TEST(GgufMetadata, EveryTruncationIsAnError) {
  Bytes bytes;
  bytes.header(0, 1)
      .string("a")
      .number<uint32_t>(9)
      .number<uint32_t>(8)
      .number<uint64_t>(2)
      .string("x")
      .string("yz");
  EXPECT_EQ(error_of(bytes), "");
  for (size_t size = 0; size < bytes.text.size(); ++size)
    EXPECT_NE(error_of(Bytes{.text = bytes.text.substr(0, size)}), "") << size;
}

TEST(GgufMetadata, HostileFilesOfOthersEndInOneError) {
  SERVAL_NEEDS_DATA("malformed/gguf");
  size_t files = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(testing::test_data("malformed/gguf"))) {
    ++files;
    try {
      // Some have a well-formed header and lie elsewhere: they hold no tokenizer and no tensor.
      const GgufMetadata gguf = GgufMetadata::open(entry.path());
      EXPECT_TRUE(gguf.tensors().empty()) << entry.path();
    } catch (const UserError& error) {
      ++refused;
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
    }
  }
  EXPECT_GT(files, 100u);
  EXPECT_GT(refused, 100u);
}

}  // namespace
}  // namespace serval
