// How the head cuts its work, shared by the shape rule (which plans the workspace) and the kernels.
#pragma once
#include <cstdint>

#include "tensor/operand.h"

namespace serval {

// Rows of one chunk, all of like size, because few chunks read the weight few times: at most what 192 MiB of
// f32 logits hold, at least 16; with head_tiles.h, which keeps no logits, at most 1024.
int64_t head_chunk_rows(int64_t vocab_size, int64_t rows, bool tiles);
// The most that it gives for any number of rows up to the capacity; more rows may have smaller chunks.
int64_t head_most_chunk_rows(int64_t vocab_size, int64_t capacity, bool tiles);
// For tests of the chunks' borders: this many rows a chunk; 0: the rule above again.
void set_head_chunk_rows_for_tests(int64_t rows);

// The workspace of one call on a GPU, where a chunk's logits have the compute type. Offsets count bytes.
struct HeadCudaLayout {
  int64_t chunk = 0;                             // label rows of one chunk
  int64_t logits_stride = 0, hidden_stride = 0;  // elements; every row begins at a multiple of 16 bytes
  int64_t logits = 0;                            // [chunk, logits_stride]
  int64_t hidden = 0, d_hidden = 0;              // [chunk, hidden_stride]: the gathered rows, their gradient
  int64_t labelled = 0;                          // a byte for each hidden row: whether it has a label
  int64_t nll = 0, correct = 0;                  // f64 and i32 for each label row
  int64_t bytes = 0;
};
struct HeadSizes {
  int64_t label_rows = 0, hidden_rows = 0, vocab_size = 0, hidden_size = 0;
  DType dtype = DType::f32;
  bool gives_d_hidden = false, trains_weight = false;
};
// Of a call on the CPU with at most so many label rows.
int64_t head_workspace_bytes(const HeadSizes& capacity);
HeadCudaLayout head_cuda_layout(const HeadSizes& sizes);
// Rows of one chunk on a GPU: about 320 MiB of logits, a multiple of 128 rows, in chunks of like size.
int64_t head_cuda_chunk_rows(int64_t vocab_size, int64_t rows, DType dtype);
// The stride of rows that begin at multiples of 16 bytes.
inline int64_t head_cuda_stride(int64_t row_size) {
  return (row_size + 7) / 8 * 8;
}

// One chunk of logits [rows, vocab_size] in the wide type (f32, or f64), turned in place into the gradient of
// the logits in the compute type (each row's gradient begins where its logits began).
struct SoftmaxArgs {
  void* logits = nullptr;
  DType dtype = DType::f32;  // compute type
  int64_t rows = 0, vocab_size = 0;
  const int32_t* labels = nullptr;
  const float* row_weights = nullptr;  // gradient = weight * (softmax - one_hot); nullptr: no gradient
  const void* upstream = nullptr;      // instead: gradient = upstream * (one_hot - softmax), in the wide type
  int64_t upstream_stride = 1;         // elements between its rows
  double* nll = nullptr;               // out: negative log-likelihood of each row
  int32_t* correct = nullptr;          // out: 1 where the label has the largest logit
};

}  // namespace serval
