// How the head cuts its work, shared by the shape rule (which plans the workspace) and the kernels.
#pragma once
#include <cstdint>

#include "tensor/operand.h"

namespace serval {

// Rows of one chunk: as many as 96 MiB of f32 logits hold, at least 16; few chunks read the weight few times.
int64_t head_chunk_rows(int64_t vocab_size, int64_t rows);
// For tests of the chunks' borders: this many rows a chunk; 0: the rule above again.
void set_head_chunk_rows_for_tests(int64_t rows);
int64_t head_workspace_bytes(int64_t rows, int64_t vocab_size, int64_t hidden_size, DType dtype);

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
