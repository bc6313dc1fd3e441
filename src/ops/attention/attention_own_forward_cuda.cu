// Our own attention forward. A block takes 64 packed rows of one head and walks over the keys of their
// documents with an online softmax.
#include "ops/attention/attention_own.h"
#include "ops/attention/attention_tile_cuda.h"

namespace serval {
namespace {

using namespace cuda;

template <class T>
struct Forward {
  AttentionShape shape;
  PackedDocuments documents;
  AttentionRowsOf<const T> q, k, v;
  AttentionRowsOf<T> o;
  AttentionRowsOf<float> lse;   // no data: not wanted
  const int32_t* past_lengths;  // no data: the keys are the packed rows
  int32_t capacity;

  // The keys [first, position] that a row sees, counted from row key_row of k and v.
  struct Seen {
    int32_t first, position, document;
    int64_t key_row;
  };
  __device__ __forceinline__ Seen seen(int32_t row) const {
    const int32_t document = documents.of(row), begin = documents.cu[document];
    if (past_lengths == nullptr) return {shape.first_key(row, begin), row, document, 0};
    const int32_t position = past_lengths[document] + (row - begin);
    return {shape.first_key(position, 0), position, document, static_cast<int64_t>(document) * capacity};
  }
};

template <int kDim>
struct ForwardTiles {
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;  // of a tile
  static constexpr int kQueryBytes = kTileRows * kDim * 2, kKeyBytes = kKeys * kDim * 2;
  static constexpr int kBytes = kQueryBytes + 4 * kKeyBytes;  // two stages of keys and values
};

template <int kDim>
__global__ void __launch_bounds__(kTileThreads) forward_tiles(const Forward<bf16> p) {
  using Sizes = ForwardTiles<kDim>;
  constexpr int kKeys = Sizes::kKeys, kBlocks = kKeys / 8;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ int32_t row_first[kTileRows], row_position[kTileRows], row_document[kTileRows];
  const auto queries = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const uint32_t keys = queries + Sizes::kQueryBytes, values = keys + 2 * Sizes::kKeyBytes;

  // The longest rows first.
  const int tile = static_cast<int>((gridDim.x - 1 - blockIdx.x) / static_cast<unsigned>(p.shape.heads));
  const int head = p.shape.heads - 1 -
                   static_cast<int>((gridDim.x - 1 - blockIdx.x) % static_cast<unsigned>(p.shape.heads));
  const int begin = tile * kTileRows, dim = p.shape.dim, kv_column = head / p.shape.group * dim;
  const int rows = min(max(p.documents.rows() - begin, 0), kTileRows);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;

  if (thread < kTileRows) {
    typename Forward<bf16>::Seen seen{INT_MAX, -1, -1, 0};
    if (thread < rows) seen = p.seen(begin + thread);
    row_first[thread] = seen.first;
    row_position[thread] = seen.position;
    row_document[thread] = seen.document;
  }
  Tile<kDim>::template load<kTileRows>(queries, p.q.row(begin) + head * dim, p.q.stride, rows, dim);
  __syncthreads();

  // Of this lane's two rows.
  const int row = warp * 16 + lane / 4;
  const int first[2] = {row_first[row], row_first[row + 8]};
  const int position[2] = {row_position[row], row_position[row + 8]};
  const int document[2] = {row_document[row], row_document[row + 8]};
  const float scale = p.shape.scale * kLog2E;
  float o[kDim / 8][4] = {}, most[2] = {minus_infinity(), minus_infinity()}, sum[2] = {0, 0};

  // The keys of all rows stand in one range, or in one for each document of a cache.
  const bool cached = p.past_lengths != nullptr;
  const int first_range = cached && rows > 0 ? row_document[0] : 0;
  const int ranges = rows == 0 ? 0 : cached ? row_document[rows - 1] + 1 - first_range : 1;
  for (int range = first_range; range < first_range + ranges; ++range) {
    const int row_begin = cached ? max(p.documents.cu[range] - begin, 0) : 0;
    const int row_end = cached ? min(p.documents.cu[range + 1] - begin, rows) : rows;
    if (row_begin >= row_end) continue;
    const int key_begin = row_first[row_begin], key_end = row_position[row_end - 1] + 1;
    // Keys that every row sees.
    const bool whole = row_begin == 0 && row_end == kTileRows;
    const int whole_begin = whole ? row_first[kTileRows - 1] : INT_MAX, whole_end = row_position[row_begin];
    const bool mine[2] = {!cached || document[0] == range, !cached || document[1] == range};
    const int64_t key_row = cached ? static_cast<int64_t>(range) * p.capacity : 0;
    const int tiles = (key_end - key_begin + kKeys - 1) / kKeys;
    const auto fetch = [&](int index) {
      const int from = key_begin + index * kKeys;
      const uint32_t stage = (index & 1) * Sizes::kKeyBytes;
      Tile<kDim>::template load<kKeys>(keys + stage, p.k.row(key_row + from) + kv_column, p.k.stride,
                                       key_end - from, dim);
      Tile<kDim>::template load<kKeys>(values + stage, p.v.row(key_row + from) + kv_column, p.v.stride,
                                       key_end - from, dim);
    };
    fetch(0);
    commit_copies();
    for (int index = 0; index < tiles; ++index) {
      if (index + 1 < tiles) fetch(index + 1);
      commit_copies();
      wait_copies<1>();
      __syncthreads();
      const uint32_t stage = (index & 1) * Sizes::kKeyBytes;
      float s[kBlocks][4];
      product_of_rows<kDim>(s, queries + warp * 16 * Tile<kDim>::kRowBytes, keys + stage);

      const int tile_begin = key_begin + index * kKeys;
      if (tile_begin < whole_begin || tile_begin + kKeys - 1 > whole_end) {
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int key = tile_begin + n * 8 + lane % 4 * 2 + e % 2, r = e / 2;
            if (!mine[r] || key < first[r] || key > position[r]) s[n][e] = minus_infinity();
          }
        }
      }
      float shift[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float top = most[r];
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        // A row that has seen no key yet.
        shift[r] = top == minus_infinity() ? 0 : top * scale;
        const float shrink = exp2_fast(most[r] * scale - shift[r]);
        most[r] = top;
        sum[r] *= shrink;
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
          o[n][2 * r] *= shrink;
          o[n][2 * r + 1] *= shrink;
        }
      }
#pragma unroll
      for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          s[n][e] = exp2_fast(s[n][e] * scale - shift[e / 2]);
          sum[e / 2] += s[n][e];
        }
      }
      product_with_weights<kDim, kDim>(o, s, values + stage);
      __syncthreads();  // the stage may be filled again
    }
  }

  // With no keys to walk over, the copies of the queries are still under way.
  wait_copies<0>();
  __syncthreads();
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    inverse[r] = sum[r] > 0 ? 1 / sum[r] : 0;
    const int to = begin + row + r * 8;
    if (p.lse.data != nullptr && lane % 4 == 0 && to < p.documents.capacity)
      p.lse.row(to)[head] = sum[r] > 0 ? (most[r] * scale + log2f(sum[r])) * kLn2 : 0;
  }
  store_rows<kDim, kDim>(o, inverse[0], inverse[1], memory,
                         AttentionRowsOf<bf16>{p.o.row(begin) + head * dim, p.o.stride},
                         p.documents.capacity - begin, dim);
}

constexpr int kPlainWarps = 4, kPlainKeys = 4;

// A warp for each row and head; a lane has columns lane + 32 i, i < kColumns.
template <class T, int kColumns>
__global__ void __launch_bounds__(kPlainWarps * 32) forward_rows(const Forward<T> p) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kPlainWarps + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, dim = p.shape.dim;
  const auto row = static_cast<int32_t>(item / p.shape.heads);
  const auto head = static_cast<int32_t>(item % p.shape.heads);
  if (row >= p.documents.capacity) return;
  float q[kColumns], o[kColumns] = {}, sum = 0, most = minus_infinity();
  if (row < p.documents.rows()) {
    const typename Forward<T>::Seen seen = p.seen(row);
    const int kv_column = head / p.shape.group * dim;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int column = lane + 32 * i;
      q[i] = column < dim ? to_float(p.q.row(row)[head * dim + column]) : 0;
    }
    for (int32_t from = seen.first; from <= seen.position; from += kPlainKeys) {
      float score[kPlainKeys], top = most;
#pragma unroll
      for (int j = 0; j < kPlainKeys; ++j) {
        const T* const key = p.k.row(seen.key_row + min(from + j, seen.position)) + kv_column;
        float dot = 0;
#pragma unroll
        for (int i = 0; i < kColumns; ++i) {
          const int column = lane + 32 * i;
          if (column < dim) dot += q[i] * to_float(key[column]);
        }
        score[j] = dot;
      }
#pragma unroll
      for (int j = 0; j < kPlainKeys; ++j) {
        score[j] = warp_sum(score[j]) * p.shape.scale;
        if (from + j > seen.position) score[j] = minus_infinity();
        top = fmaxf(top, score[j]);
      }
      const float shrink = expf(most - top);
      most = top;
      sum *= shrink;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) o[i] *= shrink;
#pragma unroll
      for (int j = 0; j < kPlainKeys; ++j) {
        const float weight = expf(score[j] - most);
        sum += weight;
        const T* const value = p.v.row(seen.key_row + min(from + j, seen.position)) + kv_column;
#pragma unroll
        for (int i = 0; i < kColumns; ++i) {
          const int column = lane + 32 * i;
          if (column < dim) o[i] += weight * to_float(value[column]);
        }
      }
    }
  }
  T* const to = p.o.row(row) + head * dim;
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    const int column = lane + 32 * i;
    if (column < dim) to[column] = from_float<T>(sum > 0 ? o[i] / sum : 0.0f);
  }
  if (p.lse.data != nullptr && lane == 0) p.lse.row(row)[head] = sum > 0 ? most + logf(sum) : 0;
}

template <class T>
Forward<T> forward_of(const AttentionForwardCall& call) {
  return {attention_shape(*call.attributes),  packed_documents(call.cu_seqlens, call.q.rows),
          rows_of<const T>(call.q),           rows_of<const T>(call.k),
          rows_of<const T>(call.v),           rows_of<T>(call.o),
          rows_of<float>(call.lse),           call.past_lengths,
          static_cast<int32_t>(call.capacity)};
}

template <int kDim>
void launch_tiles(const Forward<bf16>& p, cudaStream_t stream) {
  constexpr int kBytes = ForwardTiles<kDim>::kBytes;
  allow_shared_memory(forward_tiles<kDim>, kBytes);
  const unsigned blocks = blocks_for(p.documents.capacity, kTileRows) * static_cast<unsigned>(p.shape.heads);
  forward_tiles<kDim><<<blocks, kTileThreads, kBytes, stream>>>(p);
}

template <class T>
void launch_rows(const AttentionForwardCall& call, cudaStream_t stream) {
  const Forward<T> p = forward_of<T>(call);
  const unsigned blocks = blocks_for(int64_t{p.documents.capacity} * p.shape.heads, kPlainWarps);
  if (p.shape.dim <= 64)
    forward_rows<T, 2><<<blocks, kPlainWarps * 32, 0, stream>>>(p);
  else if (p.shape.dim <= 128)
    forward_rows<T, 4><<<blocks, kPlainWarps * 32, 0, stream>>>(p);
  else
    forward_rows<T, 8><<<blocks, kPlainWarps * 32, 0, stream>>>(p);
}

}  // namespace

void attention_own_forward(const AttentionForwardCall& call, void* stream) {
  if (call.q.rows == 0) return;
  bool tiles = call.q.dtype == DType::bf16 && call.attributes->number("scale") > 0;
  for (const Operand* x : {&call.q, &call.k, &call.v, &call.o}) tiles = tiles && aligned_to(*x, 16);
  if (tiles) {
    const Forward<bf16> p = forward_of<bf16>(call);
    if (p.shape.dim <= 64)
      launch_tiles<64>(p, as_stream(stream));
    else if (p.shape.dim <= 128)
      launch_tiles<128>(p, as_stream(stream));
    else
      launch_tiles<256>(p, as_stream(stream));
  } else {
    SERVAL_CUDA_DISPATCH(call.q.dtype, launch_rows, call, as_stream(stream));
  }
  SERVAL_CUDA(cudaGetLastError());
}

void attention_own_forward(const KernelContext& c, void* stream) {
  attention_own_forward({.q = c.input(0),
                         .k = c.input(1),
                         .v = c.input(2),
                         .cu_seqlens = c.input(3),
                         .o = c.output(0),
                         .lse = c.output(1),
                         .attributes = c.attributes},
                        stream);
}

}  // namespace serval
