#include "models/embedding_rows.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parallel.h"
#include "formats/checkpoint.h"
#include "support/test_data.h"

namespace serval {
namespace {

using testing::fixture;

// Element i of a matrix is a value of its row and column.
class TableSource final : public TensorSource {
 public:
  TableSource(int64_t rows, int64_t width, bool parts) : rows_(rows), width_(width), parts_(parts) {}
  static float value(int64_t row, int64_t column) {
    return row % 5 == 3 ? 0.0f : static_cast<float>(row * row) / 7 - static_cast<float>(column) * 3.5f;
  }
  std::optional<Shape> shape(const std::string& name) const override {
    return name == "absent" ? std::nullopt : std::optional(Shape{rows_, width_});
  }
  void read(const std::string&, void* target, DType dtype) const override {
    put(0, rows_ * width_, target, dtype);
  }
  bool read_part(const std::string&, int64_t first, int64_t count, void* target, DType dtype) const override {
    if (parts_) put(first, count, target, dtype);
    return parts_;
  }
  std::string where() const override { return "table"; }

 private:
  void put(int64_t first, int64_t count, void* target, DType dtype) const {
    std::vector<float> values;
    for (int64_t i = first; i < first + count; ++i) values.push_back(value(i / width_, i % width_));
    convert_elements(values.data(), DType::f32, target, dtype, count);
  }
  int64_t rows_, width_;
  bool parts_;
};

std::vector<float> read_all(const TensorSource& source, const std::string& name) {
  std::vector<float> values(static_cast<size_t>(source.shape(name)->elements()));
  source.read(name, values.data(), DType::f32);
  return values;
}

double mean_of_trained(int64_t known, int64_t column) {
  double sum = 0;
  int64_t count = 0;
  for (int64_t row = 0; row < known; ++row)
    if (row % 5 != 3) sum += static_cast<double>(TableSource::value(row, column)), ++count;
  return sum / static_cast<double>(count);
}

TEST(EmbeddingRows, NewRowsAreTheMeanOfTheTrainedOnes) {
  constexpr int64_t kRows = 2503, kWidth = 67, kKnown = 2400, kGrown = 2510;
  for (const bool parts : {true, false}) {
    const TableSource base(kRows, kWidth, parts);
    const EmbeddingRows rows{.rows = kGrown, .known = kKnown, .fresh = {2401, 2504}};
    const GrownSource grown(base, rows, {"embeddings", "absent"});
    EXPECT_EQ(grown.shape("embeddings"), (Shape{kGrown, kWidth}));
    EXPECT_EQ(grown.shape("other"), (Shape{kRows, kWidth}));
    EXPECT_EQ(grown.shape("absent"), std::nullopt);
    const std::vector<float> values = read_all(grown, "embeddings");
    for (int64_t row = 0; row < kGrown; ++row) {
      const bool set = row == 2401 || row >= kRows;
      for (int64_t column = 0; column < kWidth; column += 11) {
        const double expected =
            set ? mean_of_trained(kKnown, column) : static_cast<double>(TableSource::value(row, column));
        // The mean is rounded to f32 once.
        ASSERT_NEAR(values[static_cast<size_t>(row * kWidth + column)], expected, std::abs(expected) * 1e-7)
            << row << " " << column;
      }
    }
    EXPECT_EQ(read_all(grown, "other").size(), static_cast<size_t>(kRows * kWidth));
    EXPECT_EQ(grown.repaired(), 0);
  }
}

TEST(EmbeddingRows, PartsAgreeWithTheWholeAndThreadsChangeNothing) {
  const TableSource base(1500, 33, true);
  const EmbeddingRows rows{.rows = 1510, .known = 1490, .fresh = {1490, 7, 1505}, .repair_untrained = true};
  set_num_threads(1);
  const std::vector<float> one = read_all(GrownSource(base, rows, {"e"}), "e");
  set_num_threads(0);
  const GrownSource grown(base, rows, {"e"});
  EXPECT_EQ(read_all(grown, "e"), one);
  EXPECT_EQ(grown.repaired(), 298);
  for (const auto& [first, count] :
       {std::pair<int64_t, int64_t>{0, 5}, {1490 * 33 - 1, 40}, {1499 * 33 + 5, 300}, {7 * 33 + 1, 1}}) {
    std::vector<float> part(static_cast<size_t>(count));
    ASSERT_TRUE(grown.read_part("e", first, count, part.data(), DType::f32));
    EXPECT_EQ(part, std::vector<float>(one.begin() + first, one.begin() + first + count)) << first;
    std::vector<uint16_t> narrow(static_cast<size_t>(count)), expected(narrow);
    ASSERT_TRUE(grown.read_part("e", first, count, narrow.data(), DType::bf16));
    convert_elements(part.data(), DType::f32, expected.data(), DType::bf16, count);
    EXPECT_EQ(narrow, expected);
  }
}

TEST(EmbeddingRows, RowsOfZerosAreRepairedOnDemand) {
  const TableSource base(20, 4, true);
  const auto row = [&](bool repair, size_t number) {
    const GrownSource grown(base, {.rows = 20, .known = 18, .repair_untrained = repair}, {"e"});
    const std::vector<float> all = read_all(grown, "e");
    return std::vector<float>(all.begin() + static_cast<ptrdiff_t>(number * 4),
                              all.begin() + static_cast<ptrdiff_t>(number * 4 + 4));
  };
  EXPECT_EQ(row(false, 3), std::vector<float>(4, 0.0f));
  for (size_t i = 0; i < 4; ++i)
    EXPECT_FLOAT_EQ(row(true, 3)[i], static_cast<float>(mean_of_trained(18, static_cast<int64_t>(i))));
  EXPECT_EQ(row(true, 4), row(false, 4));
  EXPECT_EQ(row(true, 18), row(false, 18));  // of no token
}

TEST(EmbeddingRows, ASpellingIsMixedIn) {
  const TableSource base(20, 3, true);
  const EmbeddingRows rows{.rows = 23,
                           .known = 20,
                           .fresh = {20, 21, 22},
                           .spellings = {{1, 4, 4}, {}, {99}},
                           .spelling_share = 0.25};
  const std::vector<float> values = read_all(GrownSource(base, rows, {"e"}), "e");
  for (int64_t column = 0; column < 3; ++column) {
    const double mean = mean_of_trained(20, column);
    const double spelled = (static_cast<double>(TableSource::value(1, column)) +
                            2 * static_cast<double>(TableSource::value(4, column))) /
                           3;
    EXPECT_NEAR(values[static_cast<size_t>(60 + column)], 0.75 * mean + 0.25 * spelled, 1e-5);
    EXPECT_FLOAT_EQ(values[static_cast<size_t>(63 + column)], static_cast<float>(mean));
    EXPECT_FLOAT_EQ(values[static_cast<size_t>(66 + column)], static_cast<float>(mean));  // no such token
  }
}

TEST(EmbeddingRows, WhatCannotBeIsRefused) {
  const auto error_of = [](const EmbeddingRows& rows) -> std::string {
    try {
      const TableSource base(8, 2, true);
      GrownSource(base, rows, {"e"});
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of({.rows = 7, .known = 7}),
            "table: the tensor 'e' has 8 rows, more than the 7 of config.json");
  EXPECT_EQ(error_of({.rows = 9, .known = 0}), "table: no row of the tensor 'e' was ever trained");
}

// transformers draws new rows around the mean, with a spread of 1e-9 of the covariance.
TEST(EmbeddingRows, TransformersBeginsWithTheSameMean) {
  const std::string path = fixture("models/vocabulary/expected.json");
  const Json expected = Json::parse(read_file(path), path).at("grown");
  const Checkpoint checkpoint = Checkpoint::open(fixture("models/llama_tied"));
  class Source final : public TensorSource {
   public:
    explicit Source(const Checkpoint& from) : from_(from) {}
    std::optional<Shape> shape(const std::string& name) const override {
      return shape_of(*from_.find(name), "checkpoint");
    }
    void read(const std::string& name, void* target, DType dtype) const override {
      from_.read(name, target, dtype);
    }
    std::string where() const override { return "checkpoint"; }

   private:
    const Checkpoint& from_;
  };
  const Source base(checkpoint);
  const int64_t rows = expected.at("rows").as_int();
  const auto count = static_cast<int64_t>(expected.at("new_rows").size());
  const std::string name = "model.embed_tokens.weight";
  const std::vector<float> ours =
      read_all(GrownSource(base, {.rows = rows + count, .known = rows}, {name}), name);
  const int64_t width = static_cast<int64_t>(ours.size()) / (rows + count);
  double difference = 0, size = 0;
  for (int64_t row = 0; row < count; ++row)
    for (int64_t column = 0; column < width; ++column) {
      const double theirs = expected.at("new_rows")
                                .as_array()[static_cast<size_t>(row)]
                                .as_array()[static_cast<size_t>(column)]
                                .as_double();
      const double d = static_cast<double>(ours[static_cast<size_t>((rows + row) * width + column)]) - theirs;
      difference += d * d, size += theirs * theirs;
    }
  EXPECT_GT(size, 0);
  EXPECT_LT(std::sqrt(difference / size), 1e-3);
}

}  // namespace
}  // namespace serval
