// How many rows the embeddings and the head have, and what new or untrained ones of them begin as: the mean
// of the trained rows (as Unsloth's add_new_tokens and transformers' mean_resizing), or a mixture of it with
// the mean of the tokens that spelled a new token before. Rows are never taken away: vocabularies are padded.
//
//   EmbeddingRows rows{.rows = 151680, .known = 151665, .fresh = {151665, 151666}};
//   const GrownSource grown(checkpoint, rows, {"model.embed_tokens.weight", "lm_head.weight"});
//   load_parameters(table, Role::weight, grown, states);
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "nn/weights.h"

namespace serval {

struct EmbeddingRows {
  int64_t rows = 0;            // in all; those behind the source's are set
  int64_t known = 0;           // the rows below are of tokens that the source was made with
  std::vector<int32_t> fresh;  // new tokens: their rows are set even where the source has them, unused
  std::vector<std::vector<int32_t>> spellings;  // of each of `fresh`: ids below `known`; may be empty
  double spelling_share = 0;                    // the share of the spelling's mean, 0 to 1
  bool repair_untrained = false;                // known rows of zeros are set too
};

// Another source with more rows in some matrices. A value is a pure function of the source's.
class GrownSource final : public TensorSource {
 public:
  // Reads the named matrices once, as far as the source has them. Errors name a matrix that has more rows
  // than `rows` or none that is trained.
  GrownSource(const TensorSource& source, const EmbeddingRows& rows,
              const std::vector<std::string>& matrices);

  // The same source with these rows of one matrix in the place of its own.
  GrownSource(const TensorSource& source, const std::string& matrix,
              std::map<int64_t, std::vector<float>> rows);

  std::optional<Shape> shape(const std::string& name) const override;
  void read(const std::string& name, void* target, DType dtype) const override;
  bool read_part(const std::string& name, int64_t first, int64_t count, void* target,
                 DType dtype) const override;
  std::string where() const override { return source_.where(); }
  int64_t repaired() const { return repaired_; }  // rows of zeros that were set, of the matrix with most

 private:
  struct Matrix {
    int64_t source_rows = 0, width = 0;
    std::vector<float> mean;
    std::map<int64_t, std::vector<float>> set;  // row -> its values; empty: the mean
  };
  Matrix measure(const std::string& name, const Shape& shape, const EmbeddingRows& rows);

  const TensorSource& source_;
  int64_t rows_ = 0, repaired_ = 0;
  std::map<std::string, Matrix, std::less<>> matrices_;
};

}  // namespace serval
