#include <algorithm>

#include "ops/attention/attention_index.h"
#include "ops/common/cuda_kernel.h"

namespace serval {
namespace {

__device__ __forceinline__ int64_t valid_documents(const AttentionDocuments& of) {
  return max(cuda::valid_rows(of.count, of.documents + 1) - 1, int64_t{0});
}
// First token of a document, or the end of the last valid one; never past the tensors.
__device__ __forceinline__ int64_t boundary(const AttentionDocuments& of, int64_t document, int64_t valid) {
  const int64_t token = valid == 0 ? 0 : of.cu_seqlens[min(document, valid)];
  return min(max(token, int64_t{0}), of.tokens);
}

constexpr int kIndexThreads = 128;

__global__ void __launch_bounds__(kIndexThreads) write_index(AttentionIndex index) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kIndexThreads + threadIdx.x;
  if (i > index.of.documents) return;
  const int64_t valid = valid_documents(index.of);
  const int64_t begin = boundary(index.of, i, valid);
  if (i < index.of.documents) {
    const int64_t end = boundary(index.of, i + 1, valid);
    index.lengths[i] = static_cast<int32_t>(max(end - begin, int64_t{0}));
  }
  for (int t = 0; t < index.num_tensors; ++t)
    index.offsets[t * index.pitch + i] = begin * index.row_strides[t];
}

constexpr int kFinishThreads = 128;

template <class Unit>
__device__ __forceinline__ void finish_rows(const AttentionRows& rows, int64_t end, int64_t tokens) {
  const int64_t units = rows.row_bytes / static_cast<int64_t>(sizeof(Unit));
  for (int64_t row = (rows.source == nullptr ? end : 0) + blockIdx.x; row < tokens; row += gridDim.x) {
    auto* target = reinterpret_cast<Unit*>(static_cast<char*>(rows.target) + row * rows.target_stride);
    if (row >= end) {
      for (int64_t i = threadIdx.x; i < units; i += kFinishThreads) target[i] = Unit{};
    } else {
      const auto* source =
          reinterpret_cast<const Unit*>(static_cast<const char*>(rows.source) + row * rows.source_stride);
      for (int64_t i = threadIdx.x; i < units; i += kFinishThreads) target[i] = source[i];
    }
  }
}

// One tensor for each blockIdx.y.
__global__ void __launch_bounds__(kFinishThreads) finish_tensors(AttentionFinish finish) {
  const AttentionRows rows = finish.tensors[blockIdx.y];
  const int64_t valid = valid_documents(finish.of), end = boundary(finish.of, valid, valid);
  const auto bits = reinterpret_cast<uintptr_t>(rows.target) | reinterpret_cast<uintptr_t>(rows.source) |
                    static_cast<uintptr_t>(rows.target_stride) | static_cast<uintptr_t>(rows.source_stride) |
                    static_cast<uintptr_t>(rows.row_bytes);
  if (bits % 16 == 0)
    finish_rows<uint4>(rows, end, finish.of.tokens);
  else
    finish_rows<uint16_t>(rows, end, finish.of.tokens);  // elements of 2 or 4 bytes
}

}  // namespace

void attention_index_cuda(const AttentionIndex& index, void* stream) {
  write_index<<<cuda::blocks_for(index.of.documents + 1, kIndexThreads), kIndexThreads, 0,
                cuda::as_stream(stream)>>>(index);
  SERVAL_CUDA(cudaGetLastError());
}

void attention_finish_cuda(const AttentionFinish& finish, void* stream) {
  if (finish.num_tensors == 0 || finish.of.tokens == 0) return;
  const int64_t blocks = std::min<int64_t>(finish.of.tokens, 16 * cuda::multiprocessor_count());
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(finish.num_tensors));
  finish_tensors<<<grid, kFinishThreads, 0, cuda::as_stream(stream)>>>(finish);
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace serval
