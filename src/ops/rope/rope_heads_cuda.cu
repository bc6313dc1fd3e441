// RoPE and the norm of each head for the heads that most models have (rope_sides_cuda.h). The sizes are known
// to the compiler, a warp works on one row, and some of its heads are read before the first is worked on. The
// maths is in rope.h.
#include <algorithm>

#include "ops/rope/rope_sides_cuda.h"
#include "tensor/gpu_overlap.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kWarps = 4, kThreads = kWarps * 32, kPairs = kPack<bf16>;
// Heads that a group of lanes holds at once.
constexpr int kForwardHeads = 4, kBackwardHeads = 2;

// kLanes lanes hold a head, each of them kPairs elements of the first half and those that they rotate with.
template <int kLanes>
constexpr int kDim = 2 * kLanes * kPairs;
template <int kLanes>
constexpr int kGroups = 32 / kLanes;
template <int kLanes>
constexpr float kMeanFactor = 1.0f / kDim<kLanes>;

// 16 bytes, read where it is written here and not later, so that few registers would do; and written at once.
__device__ __forceinline__ uint4 read_now(const void* from) {
  uint4 x;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from));
  return x;
}
__device__ __forceinline__ void write_now(void* to, const uint4& x) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
               : "memory");
}

template <int kLanes>
struct Held {
  uint4 first{}, second{};
  __device__ __forceinline__ void read(const bf16* head) {
    first = read_now(head);
    second = read_now(head + kDim<kLanes> / 2);
  }
  __device__ __forceinline__ void numbers(float (&x)[2 * kPairs]) const {
    unpack_word<bf16>(first, x);
    unpack_word<bf16>(second, x + kPairs);
  }
  __device__ __forceinline__ void forget_numbers() {
    forget(first);
    forget(second);
  }
};
template <int kLanes>
__device__ __forceinline__ void write(bf16* head, const float (&x)[2 * kPairs]) {
  write_now(head, packed_word<bf16>(x));
  write_now(head + kDim<kLanes> / 2, packed_word<bf16>(x + kPairs));
}

struct Angles {
  float cos[kPairs], sin[kPairs];

  // Direction -1 is the inverse, the transposed matrix.
  __device__ __forceinline__ void read(const RopeArguments<bf16>& a, int64_t row, int lane, float direction) {
    const float *c = a.cos + row * a.cos_stride + lane * kPairs,
                *s = a.sin + row * a.sin_stride + lane * kPairs;
#pragma unroll
    for (int i = 0; i < kPairs; i += 4) {
      unpack_word<float>(read_now(c + i), cos + i);
      unpack_word<float>(read_now(s + i), sin + i);
    }
#pragma unroll
    for (int i = 0; i < kPairs; ++i) sin[i] *= direction;
  }
  __device__ __forceinline__ void rotate(float (&x)[2 * kPairs]) const {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const float first = x[i], second = x[i + kPairs];
      x[i] = first * cos[i] - second * sin[i];
      x[i + kPairs] = second * cos[i] + first * sin[i];
    }
  }
};

// Each of kCount sums over the lanes of a head. All threads of the warp take part.
template <int kLanes, int kCount>
__device__ __forceinline__ void head_sums(float (&sums)[kCount]) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], offset);
}

// Which heads of which side the blocks of this blockIdx.y work on; `slots` of them share a row of the side.
template <int kLanes, int kHeads>
struct Place {
  int on_keys, chunk, lane, warp, first_head;

  __device__ __forceinline__ explicit Place(const RopeArguments<bf16>& a) {
    const int slot = static_cast<int>(blockIdx.y);
    on_keys = slot >= a.sides[0].slots ? 1 : 0;
    chunk = on_keys != 0 ? slot - a.sides[0].slots : slot;
    lane = static_cast<int>(threadIdx.x) % kLanes;
    warp = static_cast<int>(threadIdx.x) / 32;
    first_head = chunk * kGroups<kLanes> * kHeads + static_cast<int>(threadIdx.x) % 32 / kLanes;
  }
  // In a row, of this lane's part of the first head.
  __device__ __forceinline__ int64_t column() const {
    return int64_t{first_head} * kDim<kLanes> + lane * kPairs;
  }
  __device__ __forceinline__ bool has(const RopeSide<bf16>& side, int j) const {
    return first_head + j * kGroups<kLanes> < side.heads;
  }
  static constexpr int kNext = kGroups<kLanes> * kDim<kLanes>;  // elements from a head to the next one
};

// kNormed false: also the gradient of the same, in the other direction.
template <int kLanes, bool kNormed>
__global__ void __launch_bounds__(kThreads, 4)
    forward_kernel(const __grid_constant__ RopeArguments<bf16> a, float direction) {
  using At = Place<kLanes, kForwardHeads>;
  await_previous();
  const At at(a);
  const RopeSide<bf16>& side = a.sides[at.on_keys];
  const int64_t row = int64_t{blockIdx.x} * kWarps + at.warp;
  if (row >= a.rows) return;  // a whole warp
  Angles angles;
  angles.read(a, row, at.lane, direction);
  const bf16* x = side.x + row * side.x_stride + at.column();
  Held<kLanes> held[kForwardHeads], weight;
  if constexpr (kNormed) weight.read(side.weight + at.lane * kPairs);
#pragma unroll
  for (int j = 0; j < kForwardHeads; ++j)
    if (at.has(side, j)) held[j].read(x + j * At::kNext);
  float r[kForwardHeads] = {};
  if constexpr (kNormed) {
#pragma unroll
    for (int j = 0; j < kForwardHeads; ++j) {
      float numbers[2 * kPairs];
      held[j].numbers(numbers);
#pragma unroll
      for (int i = 0; i < 2 * kPairs; ++i) r[j] += numbers[i] * numbers[i];
      held[j].forget_numbers();
    }
    head_sums<kLanes>(r);
#pragma unroll
    for (int j = 0; j < kForwardHeads; ++j) r[j] = rsqrtf(r[j] * kMeanFactor<kLanes> + a.eps);
  }
  bf16* out = side.out + row * side.out_stride + at.column();
#pragma unroll
  for (int j = 0; j < kForwardHeads; ++j) {
    if (!at.has(side, j)) continue;
    float numbers[2 * kPairs];
    held[j].numbers(numbers);
    if constexpr (kNormed) {
      float w[2 * kPairs];
      weight.numbers(w);
#pragma unroll
      for (int i = 0; i < 2 * kPairs; ++i) numbers[i] = numbers[i] * r[j] * w[i];
      weight.forget_numbers();
    }
    angles.rotate(numbers);
    write<kLanes>(out + j * At::kNext, numbers);
  }
}

// kTrained: blocks walk over the rows and leave what they add to the gradient of the norm weight.
template <int kLanes, bool kTrained>
__global__ void __launch_bounds__(kThreads, kTrained ? 3 : 4)
    normed_backward_kernel(const __grid_constant__ RopeArguments<bf16> a) {
  using At = Place<kLanes, kBackwardHeads>;
  const At at(a);
  const RopeSide<bf16>& side = a.sides[at.on_keys];
  Held<kLanes> weight;
  weight.read(side.weight + at.lane * kPairs);
  float gradient[2 * kPairs] = {};
  for (int64_t row = int64_t{blockIdx.x} * kWarps + at.warp; row < a.rows;
       row += int64_t{gridDim.x} * kWarps) {
    const bf16 *dy_row = side.dy + row * side.dy_stride + at.column(),
               *x_row = side.x + row * side.x_stride + at.column();
    Angles angles;
    angles.read(a, row, at.lane, -1.0f);
    Held<kLanes> dy[kBackwardHeads], x[kBackwardHeads];
#pragma unroll
    for (int j = 0; j < kBackwardHeads; ++j) {
      if (!at.has(side, j)) continue;
      dy[j].read(dy_row + j * At::kNext);
      x[j].read(x_row + j * At::kNext);
    }
    float sums[2 * kBackwardHeads] = {};  // of each head: squares of x, and g w x
#pragma unroll
    for (int j = 0; j < kBackwardHeads; ++j) {
      float g[2 * kPairs], values[2 * kPairs], w[2 * kPairs];
      dy[j].numbers(g);
      x[j].numbers(values);
      weight.numbers(w);
      angles.rotate(g);
#pragma unroll
      for (int i = 0; i < 2 * kPairs; ++i) {
        sums[2 * j] += values[i] * values[i];
        sums[2 * j + 1] += g[i] * w[i] * values[i];
      }
      weight.forget_numbers();
      dy[j].forget_numbers();
      x[j].forget_numbers();
    }
    head_sums<kLanes>(sums);
#pragma unroll
    for (int j = 0; j < kBackwardHeads; ++j) {
      if (!at.has(side, j)) continue;
      const float r = rsqrtf(sums[2 * j] * kMeanFactor<kLanes> + a.eps),
                  scale = sums[2 * j + 1] * r * r * r * kMeanFactor<kLanes>;
      float g[2 * kPairs], values[2 * kPairs], w[2 * kPairs];
      dy[j].numbers(g);
      x[j].numbers(values);
      weight.numbers(w);
      angles.rotate(g);
#pragma unroll
      for (int i = 0; i < 2 * kPairs; ++i) {
        if constexpr (kTrained) gradient[i] += g[i] * values[i] * r;
        g[i] = g[i] * w[i] * r - values[i] * scale;
      }
      weight.forget_numbers();
      if (side.out != nullptr)
        write<kLanes>(side.out + row * side.out_stride + at.column() + j * At::kNext, g);
    }
  }
  if constexpr (!kTrained) return;
  // The groups' sums lie side by side and are added in order.
  __shared__ float all[kThreads * 2 * kPairs];
  if (side.part == nullptr) return;
  float* own = all + static_cast<int>(threadIdx.x) / kLanes * kDim<kLanes> + at.lane * kPairs;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    own[i] = gradient[i];
    own[kDim<kLanes> / 2 + i] = gradient[kPairs + i];
  }
  __syncthreads();
  float* part = side.part + (int64_t{blockIdx.x} * side.slots + at.chunk) * kDim<kLanes>;
  for (int i = static_cast<int>(threadIdx.x); i < kDim<kLanes>; i += kThreads) {
    float sum = 0;
    for (int group = 0; group < kThreads / kLanes; ++group) sum += all[group * kDim<kLanes> + i];
    part[i] = sum;
  }
}

// Calls f<kLanes>() for a head's size.
template <class F>
void with_lanes(int head_dim, F f) {
  if (head_dim == 64)
    f.template operator()<4>();
  else if (head_dim == 128)
    f.template operator()<8>();
  else
    f.template operator()<16>();
}

bool takes(const RopeArguments<bf16>& a) {
  return (a.head_dim == 64 || a.head_dim == 128 || a.head_dim == 256) && 2 * a.half == a.head_dim &&
         (a.sides[0].weight == nullptr) == (a.sides[1].weight == nullptr);
}

template <int kLanes, int kHeads>
int slots_of(const RopeSide<bf16>& side) {
  return (side.heads + kGroups<kLanes> * kHeads - 1) / (kGroups<kLanes> * kHeads);
}

template <int kLanes>
void rotate(RopeArguments<bf16>& a, bool normed, float direction, cudaStream_t stream) {
  for (RopeSide<bf16>& side : a.sides)
    side.slots = side.out == nullptr ? 0 : slots_of<kLanes, kForwardHeads>(side);
  const dim3 grid(blocks_for(a.rows, kWarps), static_cast<unsigned>(a.sides[0].slots + a.sides[1].slots));
  if (grid.y == 0) return;
  launch_overlapped(a.rows <= kOverlapRows,
                    normed ? forward_kernel<kLanes, true> : forward_kernel<kLanes, false>, grid, kThreads,
                    stream, a, direction);
}

}  // namespace

bool rope_heads_forward(RopeArguments<bf16> a, cudaStream_t stream) {
  if (!takes(a)) return false;
  with_lanes(a.head_dim,
             [&]<int kLanes>() { rotate<kLanes>(a, a.sides[0].weight != nullptr, 1.0f, stream); });
  return true;
}

bool rope_heads_backward(RopeArguments<bf16>& a, int64_t max_parts, cudaStream_t stream) {
  if (!takes(a)) return false;
  if (a.sides[0].weight == nullptr) {
    RopeArguments<bf16> inverse = a;
    for (RopeSide<bf16>& side : inverse.sides) side.x = side.dy, side.x_stride = side.dy_stride;
    with_lanes(a.head_dim, [&]<int kLanes>() { rotate<kLanes>(inverse, false, -1.0f, stream); });
    return true;
  }
  bool done = true;
  with_lanes(a.head_dim, [&]<int kLanes>() {
    for (RopeSide<bf16>& side : a.sides) side.slots = slots_of<kLanes, kBackwardHeads>(side);
    const int most = std::max(a.sides[0].slots, a.sides[1].slots);
    const bool trained = a.sides[0].part != nullptr || a.sides[1].part != nullptr;
    int64_t blocks = (a.rows + kWarps - 1) / kWarps;
    if (trained) blocks = std::min(blocks, max_parts / most);
    if (blocks == 0) {
      done = false;
      return;
    }
    for (RopeSide<bf16>& side : a.sides) side.blocks = static_cast<int>(blocks) * side.slots;
    const dim3 grid(static_cast<unsigned>(blocks),
                    static_cast<unsigned>(a.sides[0].slots + a.sides[1].slots));
    if (trained)
      normed_backward_kernel<kLanes, true><<<grid, kThreads, 0, stream>>>(a);
    else
      normed_backward_kernel<kLanes, false><<<grid, kThreads, 0, stream>>>(a);
    SERVAL_CUDA(cudaGetLastError());
  });
  return done;
}

}  // namespace serval
