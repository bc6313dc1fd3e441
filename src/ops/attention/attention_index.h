// Small device kernels around cuDNN's attention. Counts and boundaries are read on the device, so that they
// may change between the replays of a captured step.
#pragma once
#include <cstdint>

namespace serval {

// The documents that are valid: cu_seqlens i32[documents + 1], of which *count (all, where null) hold.
struct AttentionDocuments {
  const int32_t* cu_seqlens = nullptr;
  const int32_t* count = nullptr;
  int64_t documents = 0, tokens = 0;  // capacities
};

struct AttentionIndex {
  static constexpr int kMaxTensors = 9;
  AttentionDocuments of;
  int num_tensors = 0;
  int64_t row_strides[kMaxTensors] = {};  // of each tensor, in elements
  int64_t pitch = 0;                      // elements between two tensors' arrays in `offsets`
  int32_t* lengths = nullptr;             // [documents]; 0 past the valid ones
  int64_t* offsets = nullptr;  // [num_tensors][documents + 1]: where each document's first row begins
};
void attention_index_cuda(const AttentionIndex& index, void* stream);

// Rows past the last document become zeros; where there is a source, rows of documents are copied from it.
struct AttentionRows {
  void* target = nullptr;
  const void* source = nullptr;
  int64_t target_stride = 0, source_stride = 0, row_bytes = 0;  // bytes
};
struct AttentionFinish {
  static constexpr int kMaxTensors = 3;
  AttentionDocuments of;
  int num_tensors = 0;
  AttentionRows tensors[kMaxTensors];
};
void attention_finish_cuda(const AttentionFinish& finish, void* stream);

}  // namespace serval
