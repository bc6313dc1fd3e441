#include "formats/safetensors.h"

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <numeric>
#include <stdexcept>

#include "formats/formats_test_tools.h"

namespace serval {
namespace {

using testing::fixture;
using testing::safetensors_bytes;
using testing::scratch_directory;
using testing::write_scratch;

// Element i of the fixtures is i - 3 (i for bytes); every type holds these numbers exactly.
std::vector<double> counting(int64_t count, double start = -3) {
  std::vector<double> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), start);
  return values;
}

template <class T>
std::vector<T> read_all(const SafetensorsFile& file, std::string_view name, DType dtype) {
  const SafetensorsEntry& entry = file.at(name);
  std::vector<T> values(static_cast<size_t>(shape_of(entry, file.path()).elements()));
  file.read(entry, values.data(), dtype);
  return values;
}

TEST(SafetensorsRead, NumbersOfTheReferenceWriter) {
  const SafetensorsFile file(fixture("formats/numbers.safetensors"));
  EXPECT_EQ(file.entries().size(), 12u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  for (const char* name :
       {"a", "b", "half", "double", "model.layers.0.weight", "model.layers.1.weight", "scalar",
        "gr\xc3\xb6\xc3\x9f"
        "e \"q\"\t1"}) {
    const auto values = read_all<double>(file, name, DType::f64);
    EXPECT_EQ(values, counting(static_cast<int64_t>(values.size()))) << name;
    const auto narrow = read_all<float>(file, name, DType::f32);
    EXPECT_EQ(std::vector<double>(narrow.begin(), narrow.end()), values) << name;
  }
  EXPECT_EQ(read_all<int64_t>(file, "long", DType::i64), (std::vector<int64_t>{-3, -2, -1}));
  EXPECT_EQ(read_all<int32_t>(file, "int", DType::i32), (std::vector<int32_t>{-3, -2, -1, 0, 1}));
  EXPECT_EQ(read_all<uint8_t>(file, "byte", DType::u8), (std::vector<uint8_t>{0, 1, 2}));
  EXPECT_EQ(read_all<float>(file, "empty", DType::f32).size(), 0u);
  EXPECT_EQ(file.at("model.layers.1.weight").dims, (std::vector<int64_t>{2, 2, 3}));
  EXPECT_EQ(shape_of(file.at("scalar"), "").rank(), 0);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_REFUSED(file.at("c"), "numbers.safetensors: the tensor \"c\" is missing");
}

TEST(SafetensorsRead, TypesWithoutArithmeticAreListedAndNotLoaded) {
  const SafetensorsFile file(fixture("formats/other_types.safetensors"));
  const std::map<std::string, std::string> types = {
      {"bool", "BOOL"},  {"e4m3", "F8_E4M3"}, {"e5m2", "F8_E5M2"}, {"int8", "I8"},    {"int16", "I16"},
      {"uint16", "U16"}, {"uint32", "U32"},   {"uint64", "U64"},   {"complex", "C64"}};
  for (const auto& [name, type] : types) {
    const SafetensorsEntry& entry = file.at(name);
    EXPECT_EQ(entry.format_dtype, type);
    EXPECT_FALSE(entry.dtype);
    std::byte target[64];
    EXPECT_REFUSED(file.read(entry, target, DType::f32), "cannot be read as numbers");
  }
  EXPECT_EQ(file.bytes(file.at("int8")).size(), 3u);
  EXPECT_EQ(read_all<double>(file, "weight", DType::f64), counting(4));
  int32_t target[4];
  EXPECT_REFUSED(file.read(file.at("weight"), target, DType::i32), "is F32, expected");
}

TEST(SafetensorsRead, RowsIntoAWiderTensor) {
  const SafetensorsFile file(fixture("formats/numbers.safetensors"));
  std::vector<float> target(2 * 8, 99.0f);
  file.read_rows(file.at("model.layers.0.weight"), 1, 2, target.data() + 1, DType::f32, 8);
  EXPECT_EQ(target, (std::vector<float>{99, 2, 3, 4, 5, 6, 99, 99, 99, 7, 8, 9, 10, 11, 99, 99}));
  float row[5] = {};
  file.read_rows(file.at("model.layers.0.weight"), 2, 1, row, DType::f32, 0);
  EXPECT_EQ(row[4], 11);
  file.read_rows(file.at("model.layers.0.weight"), 3, 0, row, DType::f32, 5);
}

TEST(SafetensorsRead, ElementsOfATensorByManyThreads) {
  constexpr int64_t kCount = 3'000'001;
  const std::string path = join_path(scratch_directory(), "long.safetensors");
  SafetensorsWriter writer(path);
  writer.add("a", DType::u8, {3},
             [](void* target) { std::memset(target, 1, 3); });  // what follows is unaligned
  writer.add("w", DType::bf16, {kCount}, [](void* target) {
    for (int64_t i = 0; i < kCount; ++i)
      static_cast<BFloat16*>(target)[i] = BFloat16(static_cast<float>(i % 251));
  });
  writer.write();
  const SafetensorsFile file(path);
  std::vector<float> part(static_cast<size_t>(kCount) - 8);
  file.read_elements(file.at("w"), 7, kCount - 8, part.data(), DType::f32);
  for (size_t i = 0; i < part.size(); ++i) ASSERT_EQ(part[i], static_cast<float>((i + 7) % 251)) << i;
  std::vector<BFloat16> narrow(static_cast<size_t>(kCount));
  file.read_elements(file.at("w"), 0, kCount, narrow.data(), DType::bf16);
  EXPECT_EQ(static_cast<float>(narrow[static_cast<size_t>(kCount) - 1]),
            static_cast<float>((kCount - 1) % 251));
  file.read_elements(file.at("w"), kCount, 0, narrow.data(), DType::bf16);
  // A file that becomes shorter while it is read is an error, not a crash.
  std::filesystem::resize_file(path, 1 << 20);
  EXPECT_REFUSED(file.read(file.at("w"), narrow.data(), DType::bf16), "it became shorter");
}

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST(SafetensorsRead, LargeTensorsLeaveResidentMemoryAgain) {
  constexpr int64_t kRows = 4096, kColumns = 4096;  // 64 MiB
  const std::string path = join_path(scratch_directory(), "large.safetensors");
  SafetensorsWriter writer(path);
  writer.add_rows("w", DType::f32, {kRows, kColumns}, [](int64_t row, int64_t count, void* target) {
    auto* out = static_cast<float*>(target);
    for (int64_t i = 0; i < count * kColumns; ++i) out[i] = static_cast<float>((row * kColumns + i) % 65521);
  });
  writer.write();
  const SafetensorsFile file(path);
  const int64_t before = resident_bytes();
  int64_t most = before;
  std::vector<float> row(2 * kColumns);
  for (int64_t r = 0; r < kRows; r += 2) {
    file.read_rows(file.at("w"), r, 2, row.data(), DType::f32, kColumns);
    ASSERT_EQ(row[kColumns + 7], static_cast<float>(((r + 1) * kColumns + 7) % 65521));
    if (r % 256 == 0) most = std::max(most, resident_bytes());
  }
  // 64 MiB went through; half of one release step may still be there.
  EXPECT_LT(most - before, 16 << 20);
  std::vector<BFloat16> whole(static_cast<size_t>(kRows * kColumns));
  file.read(file.at("w"), whole.data(), DType::bf16);
  EXPECT_EQ(static_cast<float>(whole[4096 * 100 + 5]),
            static_cast<float>(BFloat16(static_cast<float>((4096 * 100 + 5) % 65521))));
  std::filesystem::remove(path);
}

void fill_counting(void* target, DType dtype, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double value = static_cast<double>(i - 3);
    if (dtype == DType::i64) static_cast<int64_t*>(target)[i] = i - 3;
    if (dtype == DType::i32) static_cast<int32_t*>(target)[i] = static_cast<int32_t>(i - 3);
    if (dtype == DType::u8) static_cast<uint8_t*>(target)[i] = static_cast<uint8_t>(i);
    if (is_floating(dtype))
      convert_elements(&value, DType::f64, static_cast<std::byte*>(target) + i * size_of(dtype), dtype, 1);
  }
}

TEST(SafetensorsWrite, TheSameBytesAsTheReferenceWriter) {
  const SafetensorsFile reference(fixture("formats/numbers.safetensors"));
  const std::string directory = scratch_directory();
  SafetensorsWriter writer(join_path(directory, "numbers.safetensors"));
  SafetensorsWriter by_rows(join_path(directory, "by_rows.safetensors"));
  // In the reverse order: the writer sorts.
  for (auto it = reference.entries().rbegin(); it != reference.entries().rend(); ++it) {
    const SafetensorsEntry& entry = *it;
    const Shape shape = shape_of(entry, reference.path());
    const DType dtype = *entry.dtype;
    writer.add(entry.name, dtype, shape,
               [=](void* target) { fill_counting(target, dtype, shape.elements()); });
    by_rows.add_rows(entry.name, dtype, shape, [&, dtype, shape](int64_t row, int64_t count, void* target) {
      reference.read_rows(entry, row, count, target, dtype, shape.row_size());
    });
  }
  EXPECT_EQ(writer.data_bytes(), 191);
  writer.write();
  by_rows.write();
  const std::string expected = read_file(reference.path());
  EXPECT_EQ(read_file(join_path(directory, "numbers.safetensors")), expected);
  EXPECT_EQ(read_file(join_path(directory, "by_rows.safetensors")), expected);
}

TEST(SafetensorsWrite, AFailureLeavesNothingBehind) {
  const std::string directory = scratch_directory();
  SafetensorsWriter writer(join_path(directory, "w.safetensors"));
  writer.add("a", DType::f32, {2}, [](void*) { throw std::runtime_error("stopped"); });
  EXPECT_THROW(writer.write(), std::runtime_error);
  EXPECT_TRUE(list_directory(directory).empty());
}

struct Case {
  const char* name;
  std::string bytes;
  const char* message;  // a part of the refusal; "" where the file is right
};

std::string one(const std::string& tensor, std::string_view data = "12345678") {
  return safetensors_bytes("{\"a\":" + tensor + "}", data);
}

std::vector<Case> cases() {
  const std::string f32 = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  std::string long_header(8, '\0'), huge_header(8, '\xff');
  long_header[0] = 100;
  std::string over_limit(8, '\0');
  const uint64_t limit = 100'000'001;
  std::memcpy(over_limit.data(), &limit, 8);
  return {
      {"right", one(f32), ""},
      {"padded", safetensors_bytes("{\"a\":" + f32 + "}     ", "12345678"), ""},
      {"no_tensors", safetensors_bytes("{}"), ""},
      {"metadata_alone", safetensors_bytes(R"({"__metadata__":{"a":"b"}})"), ""},
      {"empty_tensors",
       safetensors_bytes(R"({"b":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
                         R"("a":{"dtype":"U8","shape":[2,0,3],"data_offsets":[0,0]}})"),
       ""},
      {"half_bytes", one(R"({"dtype":"F4","shape":[16],"data_offsets":[0,8]})"), ""},
      {"six_bits", one(R"({"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]})", "123"), ""},
      {"unknown_key", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})"), ""},
      {"empty_of_huge", one(R"({"dtype":"F32","shape":[0,9000000000000000000],"data_offsets":[0,0]})", ""),
       ""},

      {"nothing", "", "too few"},
      {"seven_bytes", "1234567", "too few"},
      {"length_past_end", long_header + "{}", "cut off"},
      {"length_wraps", huge_header + "{}", "100 MB"},
      {"length_over_limit", over_limit + "{}", "100 MB"},
      {"empty_header", safetensors_bytes(""), "does not begin"},
      {"leading_blank", safetensors_bytes(" {}"), "does not begin"},
      {"array", safetensors_bytes("[]"), "does not begin"},
      {"cut_json", safetensors_bytes("{\"a\":"), "not valid JSON"},
      {"trailing_text", safetensors_bytes("{}x"), "not valid JSON"},
      {"bad_utf8", safetensors_bytes("{\"\xff\":{}}"), "not valid JSON"},
      {"deep", safetensors_bytes("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}"),
       "JSON"},
      {"tensor_no_object", one("1"), "is no object"},
      {"tensor_null", one("null"), "is no object"},
      {"twice", safetensors_bytes("{\"a\":" + f32 + ",\"a\":" + f32 + "}", "12345678"), "appears twice"},
      {"metadata_twice", safetensors_bytes(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__ twice"},
      {"metadata_number", safetensors_bytes(R"({"__metadata__":{"a":1}})"), "is no string"},
      {"metadata_null", safetensors_bytes(R"({"__metadata__":null})"), "is no object"},
      {"metadata_same_key", safetensors_bytes(R"({"__metadata__":{"a":"1","a":"2"}})"), "twice"},
      {"no_dtype", one(R"({"shape":[2],"data_offsets":[0,8]})"), "lacks"},
      {"no_shape", one(R"({"dtype":"F32","data_offsets":[0,8]})"), "lacks"},
      {"no_offsets", one(R"({"dtype":"F32","shape":[2]})"), "lacks"},
      {"dtype_twice", one(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"), "twice"},
      {"shape_twice", one(R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})"), "twice"},
      {"dtype_number", one(R"({"dtype":7,"shape":[2],"data_offsets":[0,8]})"), "wrong type"},
      {"dtype_unknown", one(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})"), "unknown type"},
      {"dtype_small", one(R"({"dtype":"f32","shape":[2],"data_offsets":[0,8]})"), "unknown type"},
      {"shape_text", one(R"({"dtype":"F32","shape":"2","data_offsets":[0,8]})"), "wrong type"},
      {"dim_negative", one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "no size"},
      {"dim_float", one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), "no size"},
      {"dim_too_big", one(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})"),
       "no size"},
      {"dims_overflow", one(R"({"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]})"),
       "too large"},
      {"bits_overflow", one(R"({"dtype":"F32","shape":[2305843009213693952],"data_offsets":[0,8]})"),
       "too large"},
      {"offsets_three", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"), "wrong data_offsets"},
      {"offsets_one", one(R"({"dtype":"F32","shape":[2],"data_offsets":[8]})"), "claims"},
      {"offsets_negative", one(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"), "wrong data_offsets"},
      {"offsets_reversed", one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "claims"},
      {"offsets_past_end", one(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})"), "cut off"},
      {"offsets_huge",
       one(R"({"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]})"),
       "cut off"},
      {"size_small", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})"), "need 4"},
      {"size_large", one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "need 12"},
      {"inside_a_byte", one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,1]})", "1"), "inside a byte"},
      {"hole_first", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), "a hole"},
      {"hole_between",
       safetensors_bytes(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                         R"("b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
                         "12345"),
       "a hole"},
      {"overlap",
       safetensors_bytes(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                         R"("b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})",
                         "12345"),
       "an overlap"},
      {"bytes_left", one(f32, "123456789"), "last 1 bytes"},
      {"bytes_without_tensors", safetensors_bytes("{}", "1"), "last 1 bytes"},
      {"hostile_name", safetensors_bytes(R"({"a\n\u0000\u001b[31m":1})"), "a\\n\\u0000"},
      {"long_name", safetensors_bytes("{\"" + std::string(100000, 'x') + "\":1}"), "..."},
  };
}

class SafetensorsRules : public ::testing::TestWithParam<Case> {};

TEST_P(SafetensorsRules, EachIsEnforced) {
  const Case& c = GetParam();
  const std::string path = write_scratch(scratch_directory(), "x.safetensors", c.bytes);
  if (*c.message == '\0') {
    EXPECT_EQ(testing::refusal([&] { SafetensorsFile file(path); }), "");
  } else {
    EXPECT_REFUSED(SafetensorsFile file(path), c.message);
    EXPECT_REFUSED(SafetensorsFile file(path), path);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, SafetensorsRules, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(SafetensorsRead, ShapesThatServalCannotHold) {
  const std::string directory = scratch_directory();
  const SafetensorsFile five(write_scratch(
      directory, "five", one(R"({"dtype":"U8","shape":[1,1,1,1,2],"data_offsets":[0,2]})", "12")));
  EXPECT_REFUSED(shape_of(five.at("a"), five.path()), "5 dimensions");
  const SafetensorsFile huge(
      write_scratch(directory, "huge",
                    one(R"({"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]})", "")));
  EXPECT_REFUSED(shape_of(huge.at("a"), huge.path()), "too large");
}

TEST(SafetensorsRead, FilesThatAreNone) {
  EXPECT_REFUSED(SafetensorsFile("/nowhere/x.safetensors"), "cannot open");
  EXPECT_REFUSED(SafetensorsFile(scratch_directory().c_str()), "not a regular file");
}

}  // namespace
}  // namespace serval
