#include "ops/common/tile_cuda.h"
#include "ops/linear/adapter_backward.h"

namespace serval {
namespace {

using namespace cuda;

using Cut = AdapterBackwardCut;
constexpr int kMostSegments = AdapterBackward::kMostSegments;
constexpr int kRows = static_cast<int>(Cut::kRows), kColumns = static_cast<int>(Cut::kColumns);

struct Segment {
  const bf16* dy;  // its columns
  const bf16* b;
  const bf16* u;  // its columns
  float* d_b;     // or nullptr
  int64_t b_stride;
  int32_t first_split, splits, chunks;
  int32_t first_column;  // among the columns of all adapted segments
  int32_t rank_begin;
  float scale;
};

struct Arguments {
  Segment segments[kMostSegments];
  int32_t num_segments, chunks_per_block;
  int64_t rows, columns, dy_stride, u_stride, v_stride;
  bf16* v;
  int32_t v_columns;
  float* v_parts;    // [splits, rows, rank]
  float* d_b_parts;  // [row tiles, columns, rank]
};

// Rows of kRank numbers in shared memory, 16 bytes apart from each other so that eight of them lie in
// different banks.
template <int kRank>
struct NarrowTile {
  static constexpr int kPitch = kRank * 2 + 16, kChunks = kRank / 8;

  static __device__ __forceinline__ void load(uint32_t tile, const bf16* from, int64_t stride, int all_rows,
                                              int rows) {
    for (int i = static_cast<int>(threadIdx.x); i < all_rows * kChunks; i += kTileThreads) {
      const int row = i / kChunks, chunk = i % kChunks;
      copy_async(tile + static_cast<uint32_t>(row * kPitch + chunk * 16), from + row * stride + chunk * 8,
                 row < rows);
    }
  }
  // This lane's address for the 16 x 16 block at a row and at column 16 * block, read transposed: B of a
  // product.
  static __device__ __forceinline__ uint32_t at(int row, int block) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return static_cast<uint32_t>((row + lane % 16) * kPitch + (block * 2 + lane / 16) * 16);
  }
};

template <int kRank>
struct Shared {
  static constexpr int kTileBytes = kRows * kColumns * 2, kWeightBytes = kColumns * NarrowTile<kRank>::kPitch;
  static constexpr int kStage = kTileBytes + kWeightBytes, kStages = 2;
  static constexpr int kBytes = kStages * kStage + kRows * NarrowTile<kRank>::kPitch;
};

// A block takes 256 rows and some chunks of 64 columns of one segment. Of v a warp owns 64 rows, summed over
// the chunks; of a chunk's dB it owns 16 columns, summed over the 256 rows.
template <int kRank>
__global__ void __launch_bounds__(kTileThreads) parts_kernel(const __grid_constant__ Arguments a) {
  using Narrow = NarrowTile<kRank>;
  constexpr int kBlocks = kRank / 16;
  extern __shared__ __align__(128) unsigned char memory[];
  const auto base = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const uint32_t u_tile = base + Shared<kRank>::kStages * Shared<kRank>::kStage;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int split = static_cast<int>(blockIdx.x);
  int index = 0;
  while (index + 1 < a.num_segments && split >= a.segments[index + 1].first_split) ++index;
  const Segment& s = a.segments[index];
  const int first = (split - s.first_split) * a.chunks_per_block,
            last = min(first + a.chunks_per_block, s.chunks);
  const int64_t row0 = int64_t{blockIdx.y} * kRows;
  const int rows = static_cast<int>(min(static_cast<int64_t>(kRows), a.rows - row0));
  const bf16* dy = s.dy + row0 * a.dy_stride;

  const auto load = [&](int chunk) {
    const uint32_t stage =
        base + static_cast<uint32_t>((chunk - first) % Shared<kRank>::kStages * Shared<kRank>::kStage);
    Tile<kColumns>::template load<kRows>(stage, dy + chunk * kColumns, a.dy_stride, rows, kColumns);
    Narrow::load(stage + Shared<kRank>::kTileBytes, s.b + chunk * kColumns * s.b_stride, s.b_stride, kColumns,
                 kColumns);
    commit_copies();
  };
  Narrow::load(u_tile, s.u + row0 * a.u_stride, a.u_stride, kRows, rows);
  load(first);

  float v[4][2 * kBlocks][4] = {};
  for (int chunk = first; chunk < last; ++chunk) {
    if (chunk + 1 < last)
      load(chunk + 1);
    else
      commit_copies();
    wait_copies<1>();
    __syncthreads();
    const uint32_t tile =
        base + static_cast<uint32_t>((chunk - first) % Shared<kRank>::kStages * Shared<kRank>::kStage);
    const uint32_t weight = tile + Shared<kRank>::kTileBytes;
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k) {
      uint32_t b[kBlocks][4];
#pragma unroll
      for (int n = 0; n < kBlocks; ++n) load_matrix_transposed(b[n], weight + Narrow::at(k * 16, n));
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        uint32_t x[4];
        load_matrix(x, tile + static_cast<uint32_t>((warp * 64 + m * 16) * kColumns * 2) +
                           Tile<kColumns>::by_rows(k));
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) {
          multiply_add(v[m][2 * n], x, b[n][0], b[n][1]);
          multiply_add(v[m][2 * n + 1], x, b[n][2], b[n][3]);
        }
      }
    }
    float d[2 * kBlocks][4] = {};
#pragma unroll 4
    for (int k = 0; k < kRows / 16; ++k) {
      uint32_t x[4];
      load_matrix_transposed(
          x, tile + static_cast<uint32_t>(k * 16 * kColumns * 2) + Tile<kColumns>::by_columns(warp));
#pragma unroll
      for (int n = 0; n < kBlocks; ++n) {
        uint32_t b[4];
        load_matrix_transposed(b, u_tile + Narrow::at(k * 16, n));
        multiply_add(d[2 * n], x, b[0], b[1]);
        multiply_add(d[2 * n + 1], x, b[2], b[3]);
      }
    }
    const int64_t column = s.first_column + chunk * kColumns + warp * 16 + lane / 4;
    float* part = a.d_b_parts + (int64_t{blockIdx.y} * a.columns + column) * kRank + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < 2 * kBlocks; ++n) {
      *reinterpret_cast<float2*>(part + n * 8) = {d[n][0], d[n][1]};
      *reinterpret_cast<float2*>(part + 8 * kRank + n * 8) = {d[n][2], d[n][3]};
    }
    __syncthreads();  // before the next load overwrites the tile
  }
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int row = warp * 64 + m * 16 + lane / 4;
    float* part = a.v_parts + (split * a.rows + row0 + row) * kRank + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < 2 * kBlocks; ++n) {
      if (row < rows) *reinterpret_cast<float2*>(part + n * 8) = {v[m][n][0], v[m][n][1]};
      if (row + 8 < rows) *reinterpret_cast<float2*>(part + 8 * kRank + n * 8) = {v[m][n][2], v[m][n][3]};
    }
  }
}

constexpr int kAddThreads = 256;

// Four numbers a thread: first those of v and its zero columns, then those of the dB.
template <int kRank>
__global__ void __launch_bounds__(kAddThreads)
    add_kernel(const __grid_constant__ Arguments a, int64_t row_tiles) {
  constexpr int kQuads = kRank / 4;
  int64_t item = int64_t{blockIdx.x} * kAddThreads + threadIdx.x;
  const int64_t v_quads = a.v_columns / 4, v_items = a.rows * v_quads;
  if (item < v_items) {
    const int64_t row = item / v_quads;
    const int column = static_cast<int>(item % v_quads) * 4;
    float4 sum = {0, 0, 0, 0};
    float scale = 0;
    for (int i = 0; i < a.num_segments; ++i) {
      const Segment& s = a.segments[i];
      if (column < s.rank_begin || column >= s.rank_begin + kRank) continue;
      scale = s.scale;
      const float* part = a.v_parts + (s.first_split * a.rows + row) * kRank + (column - s.rank_begin);
      for (int split = 0; split < s.splits; ++split, part += a.rows * kRank) {
        const float4 x = *reinterpret_cast<const float4*>(part);
        sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
      }
    }
    *reinterpret_cast<uint2*>(a.v + row * a.v_stride + column) = {pack_bf16(sum.x * scale, sum.y * scale),
                                                                  pack_bf16(sum.z * scale, sum.w * scale)};
    return;
  }
  item -= v_items;
  if (item >= a.columns * kQuads) return;
  const int64_t column = item / kQuads;
  int index = 0;
  while (index + 1 < a.num_segments && column >= a.segments[index + 1].first_column) ++index;
  const Segment& s = a.segments[index];
  if (s.d_b == nullptr) return;
  const float* part = a.d_b_parts + item * 4;
  auto* target = reinterpret_cast<float4*>(s.d_b + (column - s.first_column) * kRank + item % kQuads * 4);
  float4 sum = *target;
  for (int64_t tile = 0; tile < row_tiles; ++tile, part += a.columns * kRank) {
    const float4 x = *reinterpret_cast<const float4*>(part);
    sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
  }
  *target = sum;
}

template <int kRank>
void launch(const Arguments& a, unsigned splits, const Cut& cut, cudaStream_t stream) {
  SERVAL_CUDA(cudaFuncSetAttribute(parts_kernel<kRank>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   Shared<kRank>::kBytes));
  parts_kernel<kRank>
      <<<dim3(splits, static_cast<unsigned>(cut.row_tiles)), kTileThreads, Shared<kRank>::kBytes, stream>>>(
          a);
  SERVAL_CUDA(cudaGetLastError());
  const int64_t items = a.rows * (a.v_columns / 4) + a.columns * (kRank / 4);
  add_kernel<kRank><<<blocks_for(items, kAddThreads), kAddThreads, 0, stream>>>(a, cut.row_tiles);
  SERVAL_CUDA(cudaGetLastError());
}

int64_t adapted_columns(const AdapterBackward& call) {
  int64_t columns = 0;
  for (int i = 0; i < call.num_segments; ++i) columns += call.segments[i].size;
  return columns;
}

}  // namespace

bool adapter_backward_takes(const AdapterBackward& call) {
  if (call.num_segments == 0 || call.num_segments > AdapterBackward::kMostSegments ||
      call.dy->dtype != DType::bf16 || call.dy->rows == 0 || !call.workspace)
    return false;
  const auto aligned = [](const Operand& x) {
    return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.row_stride % 8 == 0;
  };
  if (!aligned(*call.dy) || !aligned(*call.u) || !aligned(*call.v) || call.v->row_size % 4 != 0) return false;
  for (int i = 0; i < call.num_segments; ++i) {
    const AdapterBackwardSegment& s = call.segments[i];
    if (!adapter_backward_rank(s.rank) || s.rank != call.segments[0].rank || s.size % Cut::kColumns != 0 ||
        s.column % 8 != 0 || s.rank_begin % 8 != 0 || !aligned(*s.b))
      return false;
    if (*s.d_b && (s.d_b->row_stride != s.rank || reinterpret_cast<uintptr_t>(s.d_b->data) % 16 != 0))
      return false;
  }
  return true;
}

void adapter_backward_cuda(const AdapterBackward& call, void* stream) {
  const int64_t rows = call.dy->rows, rank = call.segments[0].rank;
  const Cut cut(rows, adapted_columns(call));
  Arguments a{};
  a.num_segments = call.num_segments;
  a.chunks_per_block = static_cast<int32_t>(cut.chunks_per_block);
  a.rows = rows;
  a.dy_stride = call.dy->row_stride;
  a.u_stride = call.u->row_stride;
  a.v_stride = call.v->row_stride;
  a.v = call.v->as<bf16>();
  a.v_columns = static_cast<int32_t>(call.v->row_size);
  int32_t splits = 0;
  for (int i = 0; i < call.num_segments; ++i) {
    const AdapterBackwardSegment& from = call.segments[i];
    Segment& s = a.segments[i];
    s.dy = call.dy->as<bf16>() + from.column;
    s.b = from.b->as<bf16>();
    s.u = call.u->as<bf16>() + from.rank_begin;
    s.d_b = from.d_b->as<float>();
    s.b_stride = from.b->row_stride;
    s.first_split = splits;
    s.splits = static_cast<int32_t>(cut.splits(from.size));
    s.chunks = static_cast<int32_t>(from.size / Cut::kColumns);
    s.first_column = static_cast<int32_t>(a.columns);
    s.rank_begin = static_cast<int32_t>(from.rank_begin);
    s.scale = static_cast<float>(from.scale);
    splits += s.splits;
    a.columns += from.size;
  }
  a.v_parts = static_cast<float*>(call.workspace);
  a.d_b_parts = a.v_parts + splits * rows * rank;
  const auto blocks = static_cast<unsigned>(splits);
  if (rank == 16)
    launch<16>(a, blocks, cut, as_stream(stream));
  else if (rank == 32)
    launch<32>(a, blocks, cut, as_stream(stream));
  else
    launch<64>(a, blocks, cut, as_stream(stream));
}

}  // namespace serval
