// Our own attention backward: rowsum(dO o), then dQ by rows of queries over their keys, then dK and dV by
// rows of keys over the queries that see them, of all heads of the group. Scores are computed again from lse.
#include "ops/attention/attention_own.h"
#include "ops/attention/attention_tile_cuda.h"

namespace serval {
namespace {

using namespace cuda;

template <class T>
struct Backward {
  AttentionShape shape;
  PackedDocuments documents;
  AttentionRowsOf<const T> d_o, q, k, v, o;
  AttentionRowsOf<const float> lse;
  AttentionRowsOf<T> dq, dk, dv;  // no data: not wanted
  float* delta;                   // [rows, heads]: rowsum(dO o)

  __device__ __forceinline__ float& delta_at(int64_t row, int32_t head) const {
    return delta[row * shape.heads + head];
  }
};

constexpr int kPlainWarps = 4;

// A warp for each row and head. Rows of no document are not read anywhere.
template <class T, int kWidth>
__global__ void __launch_bounds__(kPlainWarps * 32) delta_rows(const Backward<T> p) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kPlainWarps + threadIdx.x / 32;
  const auto row = static_cast<int32_t>(item / p.shape.heads);
  const auto head = static_cast<int32_t>(item % p.shape.heads);
  if (row >= p.documents.rows()) return;
  const T *const d_o = p.d_o.row(row) + head * p.shape.dim, *const o = p.o.row(row) + head * p.shape.dim;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float sum = 0;
  for (int i = lane * kWidth; i < p.shape.dim; i += 32 * kWidth) {
    const auto a = cuda::load<T, kWidth>(d_o + i), b = cuda::load<T, kWidth>(o + i);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum += to_float(a.at[e]) * to_float(b.at[e]);
  }
  sum = warp_sum(sum);
  if (lane == 0) p.delta_at(row, head) = sum;
}

template <int kDim>
struct BackwardTiles {
  // Rows of a tile of the side that is walked over. With wide heads there is room for less.
  static constexpr int kWalked = kDim <= 128 ? 64 : 32, kStages = kDim <= 128 ? 2 : 1;
  static constexpr int kOwnBytes = kTileRows * kDim * 2, kWalkedBytes = kWalked * kDim * 2;
  static constexpr int kBytes = 2 * kOwnBytes + 2 * kStages * kWalkedBytes;
  // dK and dV of a block: the sums must fit into registers.
  static constexpr int kColumns = kDim <= 128 ? kDim : 128, kParts = kDim / kColumns;
};

// body(index, stage) for index < count, after fetch(index, stage) has arrived; the next is fetched meanwhile
// where there are two stages.
template <int kStages, class Fetch, class Body>
__device__ __forceinline__ void walk_tiles(int count, Fetch fetch, Body body) {
  if (kStages == 2 && count > 0) fetch(0, 0);
  commit_copies();
  for (int index = 0; index < count; ++index) {
    const int next = index + kStages - 1;
    if (next < count) fetch(next, next % kStages);
    commit_copies();
    wait_copies<kStages - 1>();
    __syncthreads();
    body(index, index % kStages);
    __syncthreads();  // the stage may be filled again
  }
}

template <int kDim>
__global__ void __launch_bounds__(kTileThreads) backward_queries(const Backward<bf16> p) {
  using Sizes = BackwardTiles<kDim>;
  constexpr int kKeys = Sizes::kWalked, kBlocks = kKeys / 8;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ int32_t row_first[kTileRows];
  const auto queries = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const uint32_t gradients = queries + Sizes::kOwnBytes, keys = gradients + Sizes::kOwnBytes,
                 values = keys + Sizes::kStages * Sizes::kWalkedBytes;

  // The longest rows first.
  const unsigned item = gridDim.x - 1 - blockIdx.x, heads = static_cast<unsigned>(p.shape.heads);
  const int tile = static_cast<int>(item / heads), head = static_cast<int>(heads - 1 - item % heads);
  const int begin = tile * kTileRows, dim = p.shape.dim, kv_column = head / p.shape.group * dim;
  const int rows = min(max(p.documents.rows() - begin, 0), kTileRows);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;

  if (thread < kTileRows) {
    row_first[thread] =
        thread < rows ? p.shape.first_key(begin + thread, p.documents.cu[p.documents.of(begin + thread)])
                      : INT_MAX;
  }
  Tile<kDim>::template load<kTileRows>(queries, p.q.row(begin) + head * dim, p.q.stride, rows, dim);
  Tile<kDim>::template load<kTileRows>(gradients, p.d_o.row(begin) + head * dim, p.d_o.stride, rows, dim);
  __syncthreads();

  const int row = warp * 16 + lane / 4;
  const float scale = p.shape.scale * kLog2E;
  int first[2];
  float lse[2], delta[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int at = row + r * 8;
    first[r] = row_first[at];
    // What a row of no document holds is not read.
    lse[r] = at < rows ? p.lse.row(begin + at)[head] * kLog2E : 0;
    delta[r] = at < rows ? p.delta_at(begin + at, head) : 0;
  }
  float dq[kDim / 8][4] = {};
  const int key_begin = rows > 0 ? row_first[0] : 0, key_end = begin + rows;
  const int whole_begin = row_first[kTileRows - 1];
  const int tiles = rows > 0 ? (key_end - key_begin + kKeys - 1) / kKeys : 0;
  walk_tiles<Sizes::kStages>(
      tiles,
      [&](int index, int stage) {
        const int from = key_begin + index * kKeys;
        Tile<kDim>::template load<kKeys>(keys + stage * Sizes::kWalkedBytes, p.k.row(from) + kv_column,
                                         p.k.stride, key_end - from, dim);
        Tile<kDim>::template load<kKeys>(values + stage * Sizes::kWalkedBytes, p.v.row(from) + kv_column,
                                         p.v.stride, key_end - from, dim);
      },
      [&](int index, int stage) {
        const int from = key_begin + index * kKeys;
        const uint32_t key_tile = keys + stage * Sizes::kWalkedBytes;
        const uint32_t value_tile = values + stage * Sizes::kWalkedBytes;
        constexpr int kWarpBytes = 16 * Tile<kDim>::kRowBytes;
        float s[kBlocks][4], dp[kBlocks][4];
        product_of_rows<kDim>(s, queries + warp * kWarpBytes, key_tile);
        product_of_rows<kDim>(dp, gradients + warp * kWarpBytes, value_tile);
        // Not every row sees every key of the tile.
        if (from < whole_begin || from + kKeys - 1 > begin) {
#pragma unroll
          for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const int key = from + n * 8 + lane % 4 * 2 + e % 2, r = e / 2;
              if (key < first[r] || key > begin + row + r * 8) s[n][e] = minus_infinity();
            }
          }
        }
#pragma unroll
        for (int n = 0; n < kBlocks; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            s[n][e] = exp2_fast(s[n][e] * scale - lse[e / 2]) * (dp[n][e] - delta[e / 2]);
        product_with_weights<kDim, kDim>(dq, s, key_tile);
      });
  wait_copies<0>();
  __syncthreads();
  store_rows<kDim, kDim>(dq, p.shape.scale, p.shape.scale, memory,
                         AttentionRowsOf<bf16>{p.dq.row(begin) + head * dim, p.dq.stride},
                         p.documents.capacity - begin, dim);
}

template <int kDim>
__global__ void __launch_bounds__(kTileThreads) backward_keys(const Backward<bf16> p) {
  using Sizes = BackwardTiles<kDim>;
  constexpr int kQueries = Sizes::kWalked, kBlocks = kQueries / 8;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ int32_t row_last[kTileRows];
  __shared__ __align__(8) float column_lse[Sizes::kStages][kQueries], column_delta[Sizes::kStages][kQueries];
  const auto keys = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const uint32_t values = keys + Sizes::kOwnBytes, queries = values + Sizes::kOwnBytes,
                 gradients = queries + Sizes::kStages * Sizes::kWalkedBytes;

  // The first keys of a document are seen by the most queries.
  const unsigned columns_and_heads = static_cast<unsigned>(p.shape.kv_heads * Sizes::kParts);
  const int tile = static_cast<int>(blockIdx.x / columns_and_heads);
  const int kv = static_cast<int>(blockIdx.x % columns_and_heads) / Sizes::kParts;
  const int first_column = static_cast<int>(blockIdx.x % columns_and_heads) % Sizes::kParts * Sizes::kColumns;
  const int begin = tile * kTileRows, dim = p.shape.dim, kv_column = kv * dim;
  if (first_column >= dim) return;
  const int total = p.documents.rows(), rows = min(max(total - begin, 0), kTileRows);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;

  if (thread < kTileRows) {
    row_last[thread] =
        thread < rows ? p.shape.last_query(begin + thread,
                                           min(p.documents.cu[p.documents.of(begin + thread) + 1], total))
                      : -1;
  }
  Tile<kDim>::template load<kTileRows>(keys, p.k.row(begin) + kv_column, p.k.stride, rows, dim);
  Tile<kDim>::template load<kTileRows>(values, p.v.row(begin) + kv_column, p.v.stride, rows, dim);
  __syncthreads();

  const int row = warp * 16 + lane / 4;
  const int last[2] = {row_last[row], row_last[row + 8]};
  const float scale = p.shape.scale * kLog2E;
  const bool wants_key = p.dk.data != nullptr, wants_value = p.dv.data != nullptr;
  float dk[Sizes::kColumns / 8][4] = {}, dv[Sizes::kColumns / 8][4] = {};
  const int query_end = rows > 0 ? row_last[rows - 1] + 1 : begin;
  const int whole_end = rows == kTileRows ? row_last[0] : -1;
  const int tiles = (query_end - begin + kQueries - 1) / kQueries;
  walk_tiles<Sizes::kStages>(
      tiles * p.shape.group,
      [&](int index, int stage) {
        const int head = kv * p.shape.group + index / tiles, from = begin + index % tiles * kQueries;
        Tile<kDim>::template load<kQueries>(queries + stage * Sizes::kWalkedBytes, p.q.row(from) + head * dim,
                                            p.q.stride, query_end - from, dim);
        Tile<kDim>::template load<kQueries>(gradients + stage * Sizes::kWalkedBytes,
                                            p.d_o.row(from) + head * dim, p.d_o.stride, query_end - from,
                                            dim);
        if (thread < kQueries) {
          const bool inside = from + thread < query_end;
          column_lse[stage][thread] = inside ? p.lse.row(from + thread)[head] * kLog2E : 0;
          column_delta[stage][thread] = inside ? p.delta_at(from + thread, head) : 0;
        }
      },
      [&](int index, int stage) {
        const int from = begin + index % tiles * kQueries;
        const uint32_t query_tile = queries + stage * Sizes::kWalkedBytes;
        const uint32_t gradient_tile = gradients + stage * Sizes::kWalkedBytes;
        constexpr int kWarpBytes = 16 * Tile<kDim>::kRowBytes;
        // Rows are keys, columns queries. An unseen pair weighs 2^-infinity.
        float weights[kBlocks][4];
        product_of_rows<kDim>(weights, keys + warp * kWarpBytes, query_tile);
        if (from < begin + kTileRows - 1 || from + kQueries - 1 > whole_end) {
#pragma unroll
          for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const int query = from + n * 8 + lane % 4 * 2 + e % 2, r = e / 2;
              if (query < begin + row + r * 8 || query > last[r]) weights[n][e] = minus_infinity();
            }
          }
        }
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) {
          const float2 lse = *reinterpret_cast<const float2*>(&column_lse[stage][n * 8 + lane % 4 * 2]);
#pragma unroll
          for (int e = 0; e < 4; ++e)
            weights[n][e] = exp2_fast(weights[n][e] * scale - (e % 2 == 0 ? lse.x : lse.y));
        }
        const uint32_t column_bytes = static_cast<uint32_t>(first_column * 2);
        if (wants_value)
          product_with_weights<kDim, Sizes::kColumns>(dv, weights, gradient_tile + column_bytes);
        if (!wants_key) return;
        float dp[kBlocks][4];
        product_of_rows<kDim>(dp, values + warp * kWarpBytes, gradient_tile);
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) {
          const float2 delta = *reinterpret_cast<const float2*>(&column_delta[stage][n * 8 + lane % 4 * 2]);
#pragma unroll
          for (int e = 0; e < 4; ++e) weights[n][e] *= dp[n][e] - (e % 2 == 0 ? delta.x : delta.y);
        }
        product_with_weights<kDim, Sizes::kColumns>(dk, weights, query_tile + column_bytes);
      });
  wait_copies<0>();
  __syncthreads();
  const int to_store = p.documents.capacity - begin;
  if (wants_key)
    store_rows<kDim, Sizes::kColumns>(
        dk, p.shape.scale, p.shape.scale, memory,
        AttentionRowsOf<bf16>{p.dk.row(begin) + kv_column + first_column, p.dk.stride}, to_store,
        dim - first_column);
  if (wants_value)
    store_rows<kDim, Sizes::kColumns>(
        dv, 1, 1, memory + Sizes::kOwnBytes,
        AttentionRowsOf<bf16>{p.dv.row(begin) + kv_column + first_column, p.dv.stride}, to_store,
        dim - first_column);
}

// A lane's columns of a row, lane + 32 i; zeros past `dim`.
template <class T, int kColumns>
__device__ __forceinline__ void read_row(float (&x)[kColumns], const T* from, int lane, int dim) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    const int column = lane + 32 * i;
    x[i] = column < dim ? to_float(from[column]) : 0;
  }
}
template <class T, int kColumns>
__device__ __forceinline__ void write_row(const float (&x)[kColumns], T* to, int lane, int dim) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    const int column = lane + 32 * i;
    if (column < dim) to[column] = from_float<T>(x[i]);
  }
}
template <int kColumns>
__device__ __forceinline__ float dot_of_lanes(const float (&a)[kColumns], const float (&b)[kColumns]) {
  float dot = 0;
#pragma unroll
  for (int i = 0; i < kColumns; ++i) dot += a[i] * b[i];
  return warp_sum(dot);
}

template <class T, int kColumns>
__global__ void __launch_bounds__(kPlainWarps * 32) backward_query_rows(const Backward<T> p) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kPlainWarps + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, dim = p.shape.dim;
  const auto row = static_cast<int32_t>(item / p.shape.heads);
  const auto head = static_cast<int32_t>(item % p.shape.heads);
  if (row >= p.documents.capacity) return;
  float dq[kColumns] = {};
  if (row < p.documents.rows()) {
    const int kv_column = head / p.shape.group * dim;
    const int32_t first = p.shape.first_key(row, p.documents.cu[p.documents.of(row)]);
    const float lse = p.lse.row(row)[head], delta = p.delta_at(row, head);
    float q[kColumns], d_o[kColumns];
    read_row(q, p.q.row(row) + head * dim, lane, dim);
    read_row(d_o, p.d_o.row(row) + head * dim, lane, dim);
#pragma unroll 2
    for (int32_t s = first; s <= row; ++s) {
      float key[kColumns], value[kColumns];
      read_row(key, p.k.row(s) + kv_column, lane, dim);
      read_row(value, p.v.row(s) + kv_column, lane, dim);
      const float weight = expf(dot_of_lanes(q, key) * p.shape.scale - lse);
      const float ds = weight * (dot_of_lanes(d_o, value) - delta) * p.shape.scale;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) dq[i] += ds * key[i];
    }
  }
  write_row(dq, p.dq.row(row) + head * dim, lane, dim);
}

template <class T, int kColumns>
__global__ void __launch_bounds__(kPlainWarps * 32) backward_key_rows(const Backward<T> p) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kPlainWarps + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, dim = p.shape.dim;
  const auto row = static_cast<int32_t>(item / p.shape.kv_heads);
  const auto kv = static_cast<int32_t>(item % p.shape.kv_heads);
  if (row >= p.documents.capacity) return;
  float dk[kColumns] = {}, dv[kColumns] = {};
  if (const int32_t total = p.documents.rows(); row < total) {
    const int32_t last = p.shape.last_query(row, min(p.documents.cu[p.documents.of(row) + 1], total));
    float key[kColumns], value[kColumns];
    read_row(key, p.k.row(row) + kv * dim, lane, dim);
    read_row(value, p.v.row(row) + kv * dim, lane, dim);
    for (int32_t head = kv * p.shape.group; head < (kv + 1) * p.shape.group; ++head) {
#pragma unroll 2
      for (int32_t t = row; t <= last; ++t) {
        float q[kColumns], d_o[kColumns];
        read_row(q, p.q.row(t) + head * dim, lane, dim);
        read_row(d_o, p.d_o.row(t) + head * dim, lane, dim);
        const float weight = expf(dot_of_lanes(q, key) * p.shape.scale - p.lse.row(t)[head]);
        const float ds = weight * (dot_of_lanes(d_o, value) - p.delta_at(t, head)) * p.shape.scale;
#pragma unroll
        for (int i = 0; i < kColumns; ++i) {
          dk[i] += ds * q[i];
          dv[i] += weight * d_o[i];
        }
      }
    }
  }
  if (p.dk.data != nullptr) write_row(dk, p.dk.row(row) + kv * dim, lane, dim);
  if (p.dv.data != nullptr) write_row(dv, p.dv.row(row) + kv * dim, lane, dim);
}

template <class T>
Backward<T> backward_of(const KernelContext& c) {
  return {attention_shape(*c.attributes), packed_documents(c.input(6), c.input(1).rows),
          rows_of<const T>(c.input(0)),   rows_of<const T>(c.input(1)),
          rows_of<const T>(c.input(2)),   rows_of<const T>(c.input(3)),
          rows_of<const T>(c.input(4)),   rows_of<const float>(c.input(5)),
          rows_of<T>(c.output(0)),        rows_of<T>(c.output(1)),
          rows_of<T>(c.output(2)),        static_cast<float*>(c.workspace)};
}

template <class T, int kWidth>
void launch_delta(const Backward<T>& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(int64_t{p.documents.capacity} * p.shape.heads, kPlainWarps);
  delta_rows<T, kWidth><<<blocks, kPlainWarps * 32, 0, stream>>>(p);
}

template <int kDim>
void launch_tiles(const Backward<bf16>& p, cudaStream_t stream) {
  using Sizes = BackwardTiles<kDim>;
  const unsigned tiles = blocks_for(p.documents.capacity, kTileRows);
  if (p.dq.data != nullptr) {
    allow_shared_memory(backward_queries<kDim>, Sizes::kBytes);
    backward_queries<kDim>
        <<<tiles* static_cast<unsigned>(p.shape.heads), kTileThreads, Sizes::kBytes, stream>>>(p);
  }
  if (p.dk.data != nullptr || p.dv.data != nullptr) {
    allow_shared_memory(backward_keys<kDim>, Sizes::kBytes);
    backward_keys<kDim><<<tiles* static_cast<unsigned>(p.shape.kv_heads * Sizes::kParts), kTileThreads,
                          Sizes::kBytes, stream>>>(p);
  }
}

template <class T, int kColumns>
void launch_rows(const Backward<T>& p, cudaStream_t stream) {
  const int64_t rows = p.documents.capacity;
  constexpr int kThreads = kPlainWarps * 32;
  if (p.dq.data != nullptr)
    backward_query_rows<T, kColumns>
        <<<blocks_for(rows * p.shape.heads, kPlainWarps), kThreads, 0, stream>>>(p);
  if (p.dk.data != nullptr || p.dv.data != nullptr)
    backward_key_rows<T, kColumns>
        <<<blocks_for(rows * p.shape.kv_heads, kPlainWarps), kThreads, 0, stream>>>(p);
}

template <class T>
void plain_backward(const KernelContext& c, cudaStream_t stream) {
  const Backward<T> p = backward_of<T>(c);
  launch_delta<T, 1>(p, stream);
  if (p.shape.dim <= 64)
    launch_rows<T, 2>(p, stream);
  else if (p.shape.dim <= 128)
    launch_rows<T, 4>(p, stream);
  else
    launch_rows<T, 8>(p, stream);
}

void tiled_backward(const KernelContext& c, cudaStream_t stream) {
  const Backward<bf16> p = backward_of<bf16>(c);
  launch_delta<bf16, 8>(p, stream);
  if (p.shape.dim <= 64)
    launch_tiles<64>(p, stream);
  else if (p.shape.dim <= 128)
    launch_tiles<128>(p, stream);
  else
    launch_tiles<256>(p, stream);
}

}  // namespace

void attention_own_backward(const KernelContext& c, void* stream) {
  if (c.input(1).rows == 0) return;
  bool tiles = c.input(1).dtype == DType::bf16 && c.attributes->number("scale") > 0;
  for (int i = 0; i < 5; ++i) tiles = tiles && aligned_to(c.input(i), 16);
  for (int i = 0; i < 3; ++i) tiles = tiles && aligned_to(c.output(i), 16);
  if (tiles)
    tiled_backward(c, as_stream(stream));
  else
    SERVAL_CUDA_DISPATCH(c.input(1).dtype, plain_backward, c, as_stream(stream));
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace serval
