// RoPE with the optional norm of each head on the GPU, for heads of any kind; rope_heads_cuda.cu has the
// usual ones. A head belongs to a few neighbouring lanes of a warp. Each lane holds one or a few units of it:
// two vectors of N elements whose pairs rotate into one another, so that nothing but the sum of squares
// passes between lanes. The maths is in rope.h.
#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "ops/common/cuda_kernel.h"
#include "ops/rope/rope_cuda.h"
#include "ops/rope/rope_sides_cuda.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 128, kMaxHalf = 256, kMaxHeadDim = 2 * kMaxHalf;
constexpr int kSumColumns = 8, kSumLanes = 128;

// Rounded to f32, as the angles are computed; by value, so that no memory is read for them.
struct Frequencies {
  float at[kMaxHalf];
};

// One thread an angle, once a step for all layers.
__global__ void __launch_bounds__(kThreads)
    table_kernel(const int32_t* positions, int64_t rows, int half, double scaling,
                 const __grid_constant__ Frequencies frequency, float* cos, int64_t cos_stride, float* sin,
                 int64_t sin_stride) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= rows * half) return;
  const int64_t row = index / half;
  const int i = static_cast<int>(index - row * half);
  const float angle = static_cast<float>(positions[row]) * frequency.at[i];
  double sine = 0, cosine = 0;
  sincos(static_cast<double>(angle), &sine, &cosine);
  cos[row * cos_stride + i] = static_cast<float>(cosine * scaling);
  sin[row * sin_stride + i] = static_cast<float>(sine * scaling);
}

// N elements as they lie in memory: 16 bytes, or one element.
template <class T, int N>
using Held = std::conditional_t<N == 1, T, uint4>;

template <class T, int N>
__device__ __forceinline__ Held<T, N> hold(const T* from) {
  return *reinterpret_cast<const Held<T, N>*>(from);
}
template <class T, int N>
__device__ __forceinline__ void unpack(const Held<T, N>& held, float* x) {
  if constexpr (N == 1)
    x[0] = to_float(held);
  else
    unpack_word<T>(held, x);
}
template <class T, int N>
__device__ __forceinline__ void write(T* to, const float* x) {
  if constexpr (N == 1)
    *to = from_float<T>(x[0]);
  else
    *reinterpret_cast<uint4*>(to) = packed_word<T>(x);
}

// What a thread works on: its group's heads and its own units of them.
template <class T, int N, bool kInterleaved, int kUnits>
struct Place {
  int block, slot, lane, lanes, local_row;
  int first[kUnits], second[kUnits];  // elements of the head; -1: none

  __device__ __forceinline__ Place(const RopeArguments<T>& a, const RopeSide<T>& side, int block_of_side)
      : block(block_of_side) {
    const int group = static_cast<int>(threadIdx.x) >> a.lane_bits;
    lanes = 1 << a.lane_bits;
    lane = static_cast<int>(threadIdx.x) & (lanes - 1);
    local_row = group / side.slots;
    slot = group - local_row * side.slots;
    if (local_row >= side.rows_per_block) local_row = -1;
#pragma unroll
    for (int k = 0; k < kUnits; ++k) {
      const int unit = lane + k * lanes;
      if (unit < a.rotated_units) {
        first[k] = kInterleaved ? 2 * unit * N : unit * N;
        second[k] = kInterleaved ? first[k] + N : first[k] + a.half;
      } else {
        // What is not rotated follows in plain order; the last unit may have one vector only.
        first[k] = unit < a.units ? 2 * a.half + 2 * (unit - a.rotated_units) * N : -1;
        second[k] = first[k] >= 0 && first[k] + N < a.head_dim ? first[k] + N : -1;
      }
    }
  }
};

// The two vectors of a unit; zeros where there are none.
template <class T, int N>
struct Unit {
  Held<T, N> first{}, second{};
  __device__ __forceinline__ void read(const T* head, int at_first, int at_second) {
    if (at_first >= 0) first = hold<T, N>(head + at_first);
    if (at_second >= 0) second = hold<T, N>(head + at_second);
  }
  __device__ __forceinline__ void numbers(float (&x)[2 * N]) const {
    unpack<T, N>(first, x);
    unpack<T, N>(second, x + N);
  }
};
template <class T, int N>
__device__ __forceinline__ void write_unit(T* head, int at_first, int at_second, const float (&x)[2 * N]) {
  if (at_first >= 0) write<T, N>(head + at_first, x);
  if (at_second >= 0) write<T, N>(head + at_second, x + N);
}

// cos and sin of a row for a lane's units; what is not rotated turns by an angle of zero.
template <int N, int kUnits>
struct Angles {
  float cos[kUnits][N], sin[kUnits][N];

  template <class T>
  __device__ __forceinline__ void read(const RopeArguments<T>& a, int64_t row, int lane, int lanes) {
#pragma unroll
    for (int k = 0; k < kUnits; ++k) {
      const int unit = lane + k * lanes;
#pragma unroll
      for (int i = 0; i < N; ++i) cos[k][i] = 1, sin[k][i] = 0;
      if (row < 0 || unit >= a.rotated_units) continue;
      const float *c = a.cos + row * a.cos_stride + unit * N, *s = a.sin + row * a.sin_stride + unit * N;
      if constexpr (N == 1) {
        cos[k][0] = *c;
        sin[k][0] = *s;
      } else {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
          const float4 c4 = *reinterpret_cast<const float4*>(c + i),
                       s4 = *reinterpret_cast<const float4*>(s + i);
          cos[k][i] = c4.x, cos[k][i + 1] = c4.y, cos[k][i + 2] = c4.z, cos[k][i + 3] = c4.w;
          sin[k][i] = s4.x, sin[k][i + 1] = s4.y, sin[k][i + 2] = s4.z, sin[k][i + 3] = s4.w;
        }
      }
    }
  }
};

// Direction -1 is the inverse, the transposed matrix.
template <int N, bool kInterleaved>
__device__ __forceinline__ void rotate(float (&x)[2 * N], const float (&cos)[N], const float (&sin)[N],
                                       float direction) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    float &first = x[kInterleaved ? 2 * i : i], &second = x[kInterleaved ? 2 * i + 1 : i + N];
    const float a = first, b = second, s = direction * sin[i];
    first = a * cos[i] - b * s;
    second = b * cos[i] + a * s;
  }
}

// Over the lanes of a head. All threads of the warp take part.
__device__ __forceinline__ float head_sum(float value, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

__device__ __forceinline__ float inverse_rms(float squares, int size, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(size) + eps);
}

// kHeads heads are read before the first is worked on.
template <class T, int N, bool kInterleaved, int kUnits, int kHeads>
__global__ void __launch_bounds__(kThreads) forward_kernel(const __grid_constant__ RopeArguments<T> a) {
  const int block = static_cast<int>(blockIdx.x), on_keys = block >= a.sides[0].blocks ? 1 : 0;
  const RopeSide<T>& side = a.sides[on_keys];
  const Place<T, N, kInterleaved, kUnits> place(a, side, on_keys != 0 ? block - a.sides[0].blocks : block);
  int64_t row = place.local_row < 0 ? -1 : int64_t{place.block} * side.rows_per_block + place.local_row;
  if (row >= a.rows) row = -1;
  Angles<N, kUnits> angles;
  angles.read(a, row, place.lane, place.lanes);
  Unit<T, N> weight[kUnits];
  if (side.weight != nullptr) {
#pragma unroll
    for (int k = 0; k < kUnits; ++k) weight[k].read(side.weight, place.first[k], place.second[k]);
  }
  for (int base = 0; base < side.heads; base += kHeads * side.slots) {
    Unit<T, N> held[kHeads][kUnits];
#pragma unroll
    for (int j = 0; j < kHeads; ++j) {
      const int head = base + j * side.slots + place.slot;
      if (row < 0 || head >= side.heads) continue;
      const T* x = side.x + row * side.x_stride + int64_t{head} * a.head_dim;
#pragma unroll
      for (int k = 0; k < kUnits; ++k) held[j][k].read(x, place.first[k], place.second[k]);
    }
#pragma unroll
    for (int j = 0; j < kHeads; ++j) {
      const int head = base + j * side.slots + place.slot;
      float x[kUnits][2 * N];
#pragma unroll
      for (int k = 0; k < kUnits; ++k) held[j][k].numbers(x[k]);
      if (side.weight != nullptr) {
        float squares = 0;
#pragma unroll
        for (int k = 0; k < kUnits; ++k)
#pragma unroll
          for (int i = 0; i < 2 * N; ++i) squares += x[k][i] * x[k][i];
        const float r = inverse_rms(head_sum(squares, place.lanes), a.head_dim, a.eps);
#pragma unroll
        for (int k = 0; k < kUnits; ++k) {
          float w[2 * N];
          weight[k].numbers(w);
#pragma unroll
          for (int i = 0; i < 2 * N; ++i) x[k][i] = x[k][i] * r * w[i];
        }
      }
      if (row < 0 || head >= side.heads) continue;
      T* out = side.out + row * side.out_stride + int64_t{head} * a.head_dim;
#pragma unroll
      for (int k = 0; k < kUnits; ++k) {
        rotate<N, kInterleaved>(x[k], angles.cos[k], angles.sin[k], 1.0f);
        write_unit<T, N>(out, place.first[k], place.second[k], x[k]);
      }
    }
  }
}

// Each block walks over the rows block, block + blocks, ... of its side, in tiles, and adds up the gradient
// of the norm weight.
template <class T, int N, bool kInterleaved, int kUnits, int kHeads>
__global__ void __launch_bounds__(kThreads) backward_kernel(const __grid_constant__ RopeArguments<T> a) {
  const int block = static_cast<int>(blockIdx.x), on_keys = block >= a.sides[0].blocks ? 1 : 0;
  const RopeSide<T>& side = a.sides[on_keys];
  const Place<T, N, kInterleaved, kUnits> place(a, side, on_keys != 0 ? block - a.sides[0].blocks : block);
  const bool normed = side.weight != nullptr;
  Unit<T, N> weight[kUnits];
  if (normed) {
#pragma unroll
    for (int k = 0; k < kUnits; ++k) weight[k].read(side.weight, place.first[k], place.second[k]);
  }
  float gradient[kUnits][2 * N] = {};
  const int64_t tile = side.rows_per_block;
  for (int64_t begin = place.block * tile; begin < a.rows; begin += side.blocks * tile) {
    int64_t row = place.local_row < 0 ? -1 : begin + place.local_row;
    if (row >= a.rows) row = -1;
    Angles<N, kUnits> angles;
    angles.read(a, row, place.lane, place.lanes);
    for (int base = 0; base < side.heads; base += kHeads * side.slots) {
      Unit<T, N> dy[kHeads][kUnits], x[kHeads][kUnits];
#pragma unroll
      for (int j = 0; j < kHeads; ++j) {
        const int head = base + j * side.slots + place.slot;
        if (row < 0 || head >= side.heads) continue;
        const T* dy_head = side.dy + row * side.dy_stride + int64_t{head} * a.head_dim;
        const T* x_head = side.x + row * side.x_stride + int64_t{head} * a.head_dim;
#pragma unroll
        for (int k = 0; k < kUnits; ++k) {
          dy[j][k].read(dy_head, place.first[k], place.second[k]);
          if (normed) x[j][k].read(x_head, place.first[k], place.second[k]);
        }
      }
#pragma unroll
      for (int j = 0; j < kHeads; ++j) {
        const int head = base + j * side.slots + place.slot;
        float g[kUnits][2 * N];
#pragma unroll
        for (int k = 0; k < kUnits; ++k) {
          dy[j][k].numbers(g[k]);
          rotate<N, kInterleaved>(g[k], angles.cos[k], angles.sin[k], -1.0f);
        }
        if (normed) {
          float squares = 0, dot = 0;
#pragma unroll
          for (int k = 0; k < kUnits; ++k) {
            float values[2 * N], w[2 * N];
            x[j][k].numbers(values);
            weight[k].numbers(w);
#pragma unroll
            for (int i = 0; i < 2 * N; ++i) {
              squares += values[i] * values[i];
              dot += g[k][i] * w[i] * values[i];
            }
          }
          squares = head_sum(squares, place.lanes);
          dot = head_sum(dot, place.lanes);
          const float r = inverse_rms(squares, a.head_dim, a.eps);
          const float scale = dot * r * r * r / static_cast<float>(a.head_dim);
          // A head that does not exist adds zeros.
#pragma unroll
          for (int k = 0; k < kUnits; ++k) {
            float values[2 * N], w[2 * N];
            x[j][k].numbers(values);
            weight[k].numbers(w);
#pragma unroll
            for (int i = 0; i < 2 * N; ++i) {
              gradient[k][i] += row < 0 || head >= side.heads ? 0.0f : g[k][i] * values[i] * r;
              g[k][i] = g[k][i] * w[i] * r - values[i] * scale;
            }
          }
        }
        if (row < 0 || head >= side.heads || side.out == nullptr) continue;
        T* out = side.out + row * side.out_stride + int64_t{head} * a.head_dim;
#pragma unroll
        for (int k = 0; k < kUnits; ++k) write_unit<T, N>(out, place.first[k], place.second[k], g[k]);
      }
    }
  }
  if (side.part == nullptr) return;
  // The groups' sums lie side by side and are added in order.
  __shared__ float sums[kThreads * kUnits * 2 * N];
  const int group = static_cast<int>(threadIdx.x) >> a.lane_bits, groups = kThreads >> a.lane_bits;
#pragma unroll
  for (int k = 0; k < kUnits; ++k) {
#pragma unroll
    for (int i = 0; i < 2 * N; ++i) {
      const int at = i < N ? place.first[k] : place.second[k];
      if (at >= 0) sums[group * a.head_dim + at + i % N] = gradient[k][i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < a.head_dim; i += kThreads) {
    float sum = 0;
    for (int g = 0; g < groups; ++g) sum += sums[g * a.head_dim + i];
    side.part[int64_t{place.block} * a.head_dim + i] = sum;
  }
}

struct Parts {
  const float* parts;  // [count, head_dim]
  float* target;
  int count;
};
struct BothParts {
  Parts sides[2];
};

// target += the sum of the parts, in a fixed order: each lane adds every kSumLanes-th, then pairs of lanes.
__global__ void __launch_bounds__(kSumColumns* kSumLanes)
    add_parts_kernel(const __grid_constant__ BothParts both, int head_dim) {
  __shared__ float sums[kSumLanes][kSumColumns];
  const Parts& p = both.sides[blockIdx.y];
  if (p.target == nullptr) return;
  const int column = blockIdx.x * kSumColumns + threadIdx.x;
  float sum = 0;
  if (column < head_dim) {
#pragma unroll 4
    for (int i = threadIdx.y; i < p.count; i += kSumLanes) sum += p.parts[int64_t{i} * head_dim + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    if (threadIdx.y < half) sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
    __syncthreads();
  }
  if (threadIdx.y == 0 && column < head_dim) p.target[column] += sums[0][threadIdx.x];
}

bool at_16_bytes(const Operand& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}
// Whether heads of these operands, and the angles, can be read in 16-byte vectors of `pack` elements.
bool in_packs(std::initializer_list<const Operand*> rows, std::initializer_list<const Operand*> weights,
              int head_dim, int half, int pack) {
  return head_dim % pack == 0 && half % pack == 0 &&
         std::all_of(rows.begin(), rows.end(), [](const Operand* x) { return aligned_to(*x, 16); }) &&
         std::all_of(weights.begin(), weights.end(), [](const Operand* x) { return at_16_bytes(*x); });
}

template <class T>
RopeArguments<T> arguments_of(const KernelContext& c, const Operand& cos, const Operand& sin, int64_t rows) {
  RopeArguments<T> a{};
  a.cos = cos.as<float>();
  a.sin = sin.as<float>();
  a.cos_stride = cos.row_stride;
  a.sin_stride = sin.row_stride;
  a.rows = rows;
  a.head_dim = static_cast<int>(c.attributes->integer("head_dim"));
  a.half = static_cast<int>(cos.row_size);
  a.eps = static_cast<float>(c.attributes->number("eps"));
  if (a.head_dim > kMaxHeadDim || a.head_dim % 2 != 0)
    throw std::invalid_argument("qk_norm_rope: head_dim must be even and at most 512");
  return a;
}

// Spreads both sides over blocks. max_blocks: of each side; 0: as many as the rows need.
template <int N, class T>
void lay_out(RopeArguments<T>& a, int heads_at_once, int64_t max_blocks) {
  a.rotated_units = a.half / N;
  a.units = a.rotated_units + ((a.head_dim - 2 * a.half) / N + 1) / 2;
  while ((1 << a.lane_bits) < a.units && a.lane_bits < 5) ++a.lane_bits;
  const int groups = kThreads >> a.lane_bits;
  for (RopeSide<T>& side : a.sides) {
    side.slots = std::clamp((side.heads + heads_at_once - 1) / heads_at_once, 1, groups);
    side.rows_per_block = groups / side.slots;
    int64_t blocks = (a.rows + side.rows_per_block - 1) / side.rows_per_block;
    if (max_blocks > 0) blocks = std::min(blocks, max_blocks);
    side.blocks = static_cast<int>(blocks);
  }
}

// Calls f<N, kUnits>(): vectors of N elements and units a lane. A lane holds more than one unit where 32
// lanes do not suffice: heads of more than 256 in f32, and heads that are not read in vectors.
template <class T, class F>
void with_units(const RopeArguments<T>& a, bool packed, F f) {
  constexpr int N = kPack<T>;
  if (!packed)
    f.template operator()<1, 8>();
  else if (a.head_dim <= 64 * N)
    f.template operator()<N, 1>();
  else
    f.template operator()<N, kMaxHeadDim / (64 * N)>();
}

template <class T>
void start_forward(const KernelContext& c, cudaStream_t stream) {
  const Operand &q = c.input(0), &k = c.input(1), &cos = c.input(2), &sin = c.input(3), &q_norm = c.input(4),
                &k_norm = c.input(5), &q_out = c.output(0), &k_out = c.output(1);
  RopeArguments<T> a = arguments_of<T>(c, cos, sin, q.rows);
  if (a.rows == 0) return;
  const auto side = [&](const Operand& x, const Operand& weight, const Operand& out) {
    return RopeSide<T>{.x = x.as<T>(),
                       .weight = weight.as<T>(),
                       .out = out.as<T>(),
                       .x_stride = x.row_stride,
                       .out_stride = out.row_stride,
                       .heads = static_cast<int>(x.row_size) / a.head_dim};
  };
  a.sides[0] = side(q, q_norm, q_out);
  a.sides[1] = side(k, k_norm, k_out);
  const bool interleaved = c.attributes->integer("interleaved") != 0;
  const bool packed =
      in_packs({&q, &k, &q_out, &k_out, &cos, &sin}, {&q_norm, &k_norm}, a.head_dim, a.half, kPack<T>);
  if constexpr (std::is_same_v<T, bf16>) {
    if (packed && !interleaved && rope_heads_forward(a, stream)) return;
  }
  with_units(a, packed, [&]<int N, int kUnits>() {
    constexpr int kHeads = kUnits == 1 ? 4 : kUnits == 2 ? 2 : 1;
    lay_out<N>(a, kHeads, 0);
    const auto blocks = static_cast<unsigned>(a.sides[0].blocks + a.sides[1].blocks);
    if (interleaved)
      forward_kernel<T, N, true, kUnits, kHeads><<<blocks, kThreads, 0, stream>>>(a);
    else
      forward_kernel<T, N, false, kUnits, kHeads><<<blocks, kThreads, 0, stream>>>(a);
  });
  SERVAL_CUDA(cudaGetLastError());
}

template <class T>
void start_backward(const KernelContext& c, cudaStream_t stream) {
  const Operand &dq = c.input(0), &dk = c.input(1), &q = c.input(2), &k = c.input(3), &cos = c.input(4),
                &sin = c.input(5), &q_norm = c.input(6), &k_norm = c.input(7);
  const Operand &d_q_norm = c.update(0), &d_k_norm = c.update(1), &q_out = c.output(0), &k_out = c.output(1);
  RopeArguments<T> a = arguments_of<T>(c, cos, sin, q.rows);
  if (a.rows == 0) return;
  const int64_t max_parts = ops::head_norm_gradient_parts(a.rows);
  const auto side = [&](const Operand& dy, const Operand& x, const Operand& weight, const Operand& out,
                        const Operand& d_weight, int64_t first_part) {
    float* parts = static_cast<float*>(c.workspace) + first_part * a.head_dim;
    return RopeSide<T>{.x = x.as<T>(),
                       .weight = weight.as<T>(),
                       .dy = dy.as<T>(),
                       .out = out.as<T>(),
                       .part = d_weight ? parts : nullptr,
                       .x_stride = x.row_stride,
                       .dy_stride = dy.row_stride,
                       .out_stride = out.row_stride,
                       .heads = static_cast<int>(x.row_size) / a.head_dim};
  };
  a.sides[0] = side(dq, q, q_norm, q_out, d_q_norm, 0);
  a.sides[1] = side(dk, k, k_norm, k_out, d_k_norm, max_parts);
  const bool interleaved = c.attributes->integer("interleaved") != 0, trained = d_q_norm || d_k_norm;
  const bool packed = in_packs({&dq, &dk, &q, &k, &q_out, &k_out, &cos, &sin}, {&q_norm, &k_norm}, a.head_dim,
                               a.half, kPack<T>);
  bool done = false;
  if constexpr (std::is_same_v<T, bf16>)
    done = packed && !interleaved && rope_heads_backward(a, max_parts, stream);
  if (!done) {
    with_units(a, packed, [&]<int N, int kUnits>() {
      constexpr int kHeads = kUnits == 1 ? 2 : 1;
      lay_out<N>(a, kHeads, trained ? max_parts : 0);
      const auto blocks = static_cast<unsigned>(a.sides[0].blocks + a.sides[1].blocks);
      if (interleaved)
        backward_kernel<T, N, true, kUnits, kHeads><<<blocks, kThreads, 0, stream>>>(a);
      else
        backward_kernel<T, N, false, kUnits, kHeads><<<blocks, kThreads, 0, stream>>>(a);
    });
    SERVAL_CUDA(cudaGetLastError());
  }
  if (!trained) return;
  const BothParts both{{{a.sides[0].part, d_q_norm.as<float>(), a.sides[0].blocks},
                        {a.sides[1].part, d_k_norm.as<float>(), a.sides[1].blocks}}};
  add_parts_kernel<<<dim3(blocks_for(a.head_dim, kSumColumns), 2), dim3(kSumColumns, kSumLanes), 0, stream>>>(
      both, a.head_dim);
  SERVAL_CUDA(cudaGetLastError());
}

}  // namespace

void rope_table_cuda(const KernelContext& c, void* stream) {
  const Operand &positions = c.input(0), &cos = c.output(0), &sin = c.output(1);
  if (cos.dtype != DType::f32) unsupported_type("rope_table");
  const std::vector<double>& numbers = c.attributes->numbers("inverse_frequency");
  if (numbers.size() > kMaxHalf) throw std::invalid_argument("rope_table: more than 256 frequencies");
  const unsigned blocks = blocks_for(cos.rows * cos.row_size, kThreads);
  if (blocks == 0) return;
  Frequencies frequency{};
  for (size_t i = 0; i < numbers.size(); ++i) frequency.at[i] = static_cast<float>(numbers[i]);
  table_kernel<<<blocks, kThreads, 0, as_stream(stream)>>>(
      positions.as<int32_t>(), cos.rows, static_cast<int>(cos.row_size), c.attributes->number("scaling"),
      frequency, cos.as<float>(), cos.row_stride, sin.as<float>(), sin.row_stride);
  SERVAL_CUDA(cudaGetLastError());
}

void qk_norm_rope_forward_cuda(const KernelContext& c, void* stream) {
  SERVAL_CUDA_DISPATCH(c.input(0).dtype, start_forward, c, as_stream(stream));
}

void qk_norm_rope_backward_cuda(const KernelContext& c, void* stream) {
  SERVAL_CUDA_DISPATCH(c.input(2).dtype, start_backward, c, as_stream(stream));
}

}  // namespace serval
