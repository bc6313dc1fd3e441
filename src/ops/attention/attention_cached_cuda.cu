// Attention with a cache on a GPU. Many new tokens: they are appended, then the forward reads the cache
// alone. A token or two of each sequence: the keys of each token are cut into pieces; a block attends to one
// piece with the query heads of one key head, and reads new tokens where they come from, while it appends its
// own.
#include "ops/attention/attention_own.h"
#include "ops/attention/attention_tile_cuda.h"
#include "tensor/gpu_overlap.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 128;
constexpr int kLeastKeys = 64;  // of a piece

template <class T>
struct Cached {
  AttentionShape shape;
  PackedDocuments documents;
  AttentionRowsOf<const T> q, k, v;
  AttentionRowsOf<T> k_cache, v_cache, o;
  const int32_t* past_lengths;
  int32_t capacity;     // of a sequence
  int32_t pieces;       // of a token's keys
  int32_t group_parts;  // blocks that share the query heads of a key head
  bool vectors;         // rows of the cache lie at multiples of 16 bytes
  float *stats,
      *partial;  // [rows, heads, pieces] maximum (of base-2 scores) and sum; values not divided by it
};

template <class V>
struct Append {
  PackedDocuments documents;
  AttentionRowsOf<const V> k, v;
  AttentionRowsOf<V> k_cache, v_cache;
  const int32_t* past_lengths;
  int32_t capacity;
  int64_t size;  // of a row
};

// One block a new token.
template <class V>
__global__ void __launch_bounds__(kThreads) append_rows(const Append<V> p) {
  const auto row = static_cast<int32_t>(blockIdx.x);
  if (row >= p.documents.rows()) return;
  const int32_t sequence = p.documents.of(row);
  const int32_t position = p.past_lengths[sequence] + (row - p.documents.cu[sequence]);
  if (position >= p.capacity) return;
  const int64_t slot = static_cast<int64_t>(sequence) * p.capacity + position;
  for (int64_t i = threadIdx.x; i < p.size; i += kThreads) {
    p.k_cache.row(slot)[i] = p.k.row(row)[i];
    p.v_cache.row(slot)[i] = p.v.row(row)[i];
  }
}

constexpr int kWidth = 8;  // columns of a lane

// Columns [0, 8) of `from`; one by one where they do not lie at multiples of 16 bytes.
template <bool kVectors, class T>
__device__ __forceinline__ void read_columns(float (&x)[kWidth], const T* from) {
  if constexpr (kVectors) {
    constexpr int kSize = kPack<T>;
#pragma unroll
    for (int i = 0; i < kWidth / kSize; ++i) {
      const auto pack = cuda::load<T, kSize>(from + i * kSize);
#pragma unroll
      for (int e = 0; e < kSize; ++e) x[i * kSize + e] = to_float(pack.at[e]);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) x[e] = to_float(from[e]);
  }
}

// What kLanes neighbouring lanes, 8 columns each, have gathered of the keys that fell to them.
template <int kHeads>
struct Gathered {
  float most[kHeads], sum[kHeads], o[kHeads][kWidth];
};

// Keys [from, to) of `k` and `v`; base-2 scores. All lanes of a warp take part: `slot` of kSlots takes every
// kSlots-th key, kUnroll at once.
template <int kLanes, int kUnroll, bool kVectors, class T, int kHeads>
__device__ __forceinline__ void gather(Gathered<kHeads>& g, const float (&q)[kHeads][kWidth],
                                       const AttentionRowsOf<T>& k, const AttentionRowsOf<T>& v, int32_t from,
                                       int32_t to, int slot, bool inside) {
  constexpr int kSlots = kThreads / kLanes;
  for (int32_t begin = from; begin < to; begin += kSlots * kUnroll) {
    float key[kUnroll][kWidth] = {}, value[kUnroll][kWidth] = {}, score[kHeads][kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int32_t at = begin + u * kSlots + slot;
      if (at >= to || !inside) continue;
      read_columns<kVectors>(key[u], k.row(at));
      read_columns<kVectors>(value[u], v.row(at));
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float top = g.most[h];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        float dot = 0;
#pragma unroll
        for (int e = 0; e < kWidth; ++e) dot += q[h][e] * key[u][e];
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset /= 2)
          dot += __shfl_xor_sync(0xffffffffu, dot, offset);
        score[h][u] = begin + u * kSlots + slot < to ? dot : minus_infinity();
        top = fmaxf(top, score[h][u]);
      }
      const float shift = top == minus_infinity() ? 0 : top;  // no key yet
      const float shrink = exp2f(g.most[h] - shift);
      g.most[h] = top;
      g.sum[h] *= shrink;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) g.o[h][e] *= shrink;
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const float weight = exp2f(score[h][u] - shift);
        g.sum[h] += weight;
#pragma unroll
        for (int e = 0; e < kWidth; ++e) g.o[h][e] += weight * value[u][e];
      }
    }
  }
}

// A block: one piece of the keys of one token, up to kHeads query heads of one key head.
template <class T, int kLanes, int kHeads>
__global__ void __launch_bounds__(kThreads) attend_piece(const Cached<T> p) {
  constexpr int kSlots = kThreads / kLanes, kUnroll = 16 / static_cast<int>(sizeof(T)) / 2;
  __shared__ __align__(16) float slot_o[kSlots][kHeads][kLanes * kWidth];
  __shared__ float slot_most[kSlots][kHeads], slot_sum[kSlots][kHeads];
  await_previous();
  const int thread = static_cast<int>(threadIdx.x), dim = p.shape.dim;
  unsigned item = blockIdx.x;
  const auto piece = static_cast<int32_t>(item % static_cast<unsigned>(p.pieces));
  item /= static_cast<unsigned>(p.pieces);
  const auto part = static_cast<int32_t>(item % static_cast<unsigned>(p.group_parts));
  item /= static_cast<unsigned>(p.group_parts);
  const auto kv = static_cast<int32_t>(item % static_cast<unsigned>(p.shape.kv_heads));
  const auto row = static_cast<int32_t>(item / static_cast<unsigned>(p.shape.kv_heads));
  const int32_t first_head = kv * p.shape.group + part * kHeads;
  const int32_t heads = min(kHeads, (kv + 1) * p.shape.group - first_head);

  if (row >= p.documents.rows()) {
    // With more pieces the combining kernel writes these zeros.
    if (p.pieces == 1)
      for (int i = thread; i < heads * dim; i += kThreads)
        p.o.row(row)[first_head * dim + i] = from_float<T>(0);
    return;
  }
  const int32_t sequence = p.documents.of(row), begin = p.documents.cu[sequence];
  const int32_t past = p.past_lengths[sequence], position = past + (row - begin);
  const int64_t cache_row = static_cast<int64_t>(sequence) * p.capacity;
  if (piece == 0 && part == 0 && position < p.capacity) {
    for (int i = thread; i < dim; i += kThreads) {
      p.k_cache.row(cache_row + position)[kv * dim + i] = p.k.row(row)[kv * dim + i];
      p.v_cache.row(cache_row + position)[kv * dim + i] = p.v.row(row)[kv * dim + i];
    }
  }
  const int32_t first = p.shape.first_key(position, 0), keys = position + 1 - first;
  const int32_t per_piece = max(((keys + p.pieces - 1) / p.pieces + 31) / 32 * 32, kLeastKeys);
  const int32_t from = first + piece * per_piece, to = min(from + per_piece, position + 1);

  Gathered<kHeads> g;
  float q[kHeads][kWidth];
  const int slot = thread / kLanes, column = thread % kLanes * kWidth;
  const bool inside = column < dim;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    g.most[h] = minus_infinity();
    g.sum[h] = 0;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      g.o[h][e] = 0;
      q[h][e] = inside && h < heads
                    ? to_float(p.q.row(row)[(first_head + h) * dim + column + e]) * (p.shape.scale * kLog2E)
                    : 0;
    }
  }
  // Cached tokens, then new ones, which other blocks may be appending meanwhile.
  const AttentionRowsOf<const T> k_cached{p.k_cache.row(cache_row) + kv * dim + column, p.k_cache.stride};
  const AttentionRowsOf<const T> v_cached{p.v_cache.row(cache_row) + kv * dim + column, p.v_cache.stride};
  if (p.vectors)
    gather<kLanes, kUnroll, true>(g, q, k_cached, v_cached, from, min(to, past), slot, inside);
  else
    gather<kLanes, 1, false>(g, q, k_cached, v_cached, from, min(to, past), slot, inside);
  const AttentionRowsOf<const T> k_new{p.k.row(begin) + kv * dim + column, p.k.stride};
  const AttentionRowsOf<const T> v_new{p.v.row(begin) + kv * dim + column, p.v.stride};
  gather<kLanes, 1, false>(g, q, k_new, v_new, max(from, past) - past, to - past, slot, inside);

#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) slot_o[slot][h][column + e] = g.o[h][e];
    if (column == 0) {
      slot_most[slot][h] = g.most[h];
      slot_sum[slot][h] = g.sum[h];
    }
  }
  __syncthreads();
  for (int i = thread; i < heads * dim; i += kThreads) {
    const int h = i / dim, c = i % dim;
    float most = minus_infinity(), sum = 0, o = 0;
#pragma unroll
    for (int s = 0; s < kSlots; ++s) most = fmaxf(most, slot_most[s][h]);
    const float shift = most == minus_infinity() ? 0 : most;  // the piece is empty
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
      const float weight = exp2f(slot_most[s][h] - shift);
      sum += weight * slot_sum[s][h];
      o += weight * slot_o[s][h][c];
    }
    if (p.pieces == 1) {
      p.o.row(row)[first_head * dim + i] = from_float<T>(o / sum);
    } else {
      const int64_t at = (static_cast<int64_t>(row) * p.shape.heads + first_head + h) * p.pieces + piece;
      p.partial[at * dim + c] = o;
      if (c == 0) {
        p.stats[2 * at] = most;
        p.stats[2 * at + 1] = sum;
      }
    }
  }
}

// One block a token and head.
template <class T>
__global__ void __launch_bounds__(kThreads) combine_pieces(const Cached<T> p) {
  __shared__ float weights[64];
  await_previous();
  const int thread = static_cast<int>(threadIdx.x), dim = p.shape.dim;
  const int64_t row = blockIdx.x / static_cast<unsigned>(p.shape.heads),
                head = blockIdx.x % static_cast<unsigned>(p.shape.heads);
  T* const to = p.o.row(row) + head * dim;
  if (row >= p.documents.rows()) {
    for (int c = thread; c < dim; c += kThreads) to[c] = from_float<T>(0);
    return;
  }
  const int64_t first = static_cast<int64_t>(blockIdx.x) * p.pieces;
  if (thread < 32) {
    float most[2], sum[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int piece = thread + 32 * i;
      most[i] = piece < p.pieces ? p.stats[2 * (first + piece)] : minus_infinity();
      sum[i] = piece < p.pieces ? p.stats[2 * (first + piece) + 1] : 0;
    }
    const float top = warp_max(fmaxf(most[0], most[1]));
    const float weight[2] = {exp2f(most[0] - top), exp2f(most[1] - top)};
    const float total = warp_sum(weight[0] * sum[0] + weight[1] * sum[1]);
    weights[thread] = weight[0] / total;
    weights[thread + 32] = weight[1] / total;
  }
  __syncthreads();
  for (int c = thread; c < dim; c += kThreads) {
    float o = 0;
#pragma unroll 8
    for (int piece = 0; piece < p.pieces; ++piece) o += weights[piece] * p.partial[(first + piece) * dim + c];
    to[c] = from_float<T>(o);
  }
}

template <class T, int kLanes>
void launch_pieces(const Cached<T>& p, cudaStream_t stream) {
  const auto launch = [&]<int kHeads>() {
    Cached<T> with_parts = p;
    with_parts.group_parts = (p.shape.group + kHeads - 1) / kHeads;
    const int64_t blocks =
        int64_t{p.documents.capacity} * p.shape.kv_heads * with_parts.group_parts * p.pieces;
    launch_overlapped(p.documents.capacity <= kOverlapRows, attend_piece<T, kLanes, kHeads>,
                      static_cast<unsigned>(blocks), kThreads, stream, with_parts);
  };
  if (p.shape.group == 1)
    launch.template operator()<1>();
  else if (p.shape.group == 2)
    launch.template operator()<2>();
  else
    launch.template operator()<4>();
}

template <class T>
void attend_in_pieces(const KernelContext& c, cudaStream_t stream) {
  const Operand &q = c.input(0), &cu = c.input(3);
  const AttentionShape shape = attention_shape(*c.attributes);
  const int64_t capacity = c.attributes->integer("capacity");
  const int64_t pieces = attention_cached_pieces(q.rows, shape.kv_heads, capacity);
  const auto stats = static_cast<float*>(c.workspace);
  const Cached<T> p{shape,
                    packed_documents(cu, q.rows),
                    rows_of<const T>(q),
                    rows_of<const T>(c.input(1)),
                    rows_of<const T>(c.input(2)),
                    rows_of<T>(c.update(0)),
                    rows_of<T>(c.update(1)),
                    rows_of<T>(c.output(0)),
                    c.input(4).as<int32_t>(),
                    static_cast<int32_t>(capacity),
                    static_cast<int32_t>(pieces),
                    1,
                    aligned_to(c.update(0), 16) && aligned_to(c.update(1), 16),
                    stats,
                    stats + 2 * q.rows * shape.heads * pieces};
  if (shape.dim <= 64)
    launch_pieces<T, 8>(p, stream);
  else if (shape.dim <= 128)
    launch_pieces<T, 16>(p, stream);
  else
    launch_pieces<T, 32>(p, stream);
  if (pieces > 1)
    launch_overlapped(q.rows <= kOverlapRows, combine_pieces<T>, static_cast<unsigned>(q.rows * shape.heads),
                      kThreads, stream, p);
}

// V: 16 bytes or one element.
template <class V>
void append(const KernelContext& c, cudaStream_t stream) {
  const int64_t size = size_of(c.input(1).dtype), units = static_cast<int64_t>(sizeof(V)) / size;
  const auto source = [&](const Operand& x) {
    return AttentionRowsOf<const V>{x.as<const V>(), x.row_stride / units};
  };
  const auto target = [&](const Operand& x) { return AttentionRowsOf<V>{x.as<V>(), x.row_stride / units}; };
  const int64_t rows = c.input(0).rows;
  append_rows<V><<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(
      {packed_documents(c.input(3), rows), source(c.input(1)), source(c.input(2)), target(c.update(0)),
       target(c.update(1)), c.input(4).as<int32_t>(), static_cast<int32_t>(c.attributes->integer("capacity")),
       c.input(1).row_size / units});
}

}  // namespace

void attention_cached_cuda(const KernelContext& c, void* stream) {
  const Operand &q = c.input(0), &cu = c.input(3);
  if (q.rows == 0) return;
  if (attention_cached_splits_keys(q.rows, cu.rows - 1)) {
    SERVAL_CUDA_DISPATCH(q.dtype, attend_in_pieces, c, as_stream(stream));
    SERVAL_CUDA(cudaGetLastError());
    return;
  }
  bool vectors = true;
  for (const Operand* x : {&c.input(1), &c.input(2), &c.update(0), &c.update(1)})
    vectors = vectors && aligned_to(*x, 16);
  if (q.dtype != DType::f32 && q.dtype != DType::bf16) unsupported_type("attention_cached");
  if (vectors)
    append<uint4>(c, as_stream(stream));
  else if (q.dtype == DType::f32)
    append<float>(c, as_stream(stream));
  else
    append<bf16>(c, as_stream(stream));
  SERVAL_CUDA(cudaGetLastError());
  attention_own_forward({.q = q,
                         .k = c.update(0),
                         .v = c.update(1),
                         .cu_seqlens = cu,
                         .o = c.output(0),
                         .lse = kAbsentOperand,
                         .past_lengths = c.input(4).as<int32_t>(),
                         .capacity = c.attributes->integer("capacity"),
                         .attributes = c.attributes},
                        stream);
}

}  // namespace serval
