// The optimizer step of 8-bit moments: a warp takes a block of 256 elements, a lane elements 4 * lane ... + 3
// of either half, so that every load and store of the warp is one run of memory. What the step needs of the
// dynamic maps lies in shared memory.
#include "ops/adamw/adamw_cuda.h"
#include "ops/adamw_8bit/dynamic_map.h"

namespace serval {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kBlock = 256;              // elements that share an absmax
constexpr int64_t kThreadBlock = 32768;  // elements of a block of threads
constexpr int kUpdates = 6;              // operands of one tensor
constexpr int kHalf = 4;                 // elements of a lane in half a block
constexpr float kSmallest = 1e-37f;      // an absmax whose reciprocal is a normal number
constexpr unsigned kAllLanes = 0xffffffffu;

struct Tensor {
  void* p;
  uint8_t *m_codes, *v_codes;
  float *m_absmax, *v_absmax, *g;
  uint64_t stream;
  int64_t count;
  int32_t columns, p_stride;  // rows of the parameter may be apart
  int32_t first_block;
  bool vectors;  // all can be read in packs of four elements
  bool bf16_p;
};

// Both maps, padded to whole 16-byte packs.
struct alignas(16) Maps {
  static constexpr int kKeys = (static_cast<int>(DynamicMap::kKeys) + 15) / 16 * 16;
  float m_values[256], v_values[256], m_borders[256], v_borders[256];
  uint8_t m_first[kKeys], v_first[kKeys];
};
constexpr Maps make_maps() {
  Maps maps{};
  for (int i = 0; i < 256; ++i) {
    maps.m_values[i] = kSignedMap.values[i];
    maps.v_values[i] = kUnsignedMap.values[i];
    maps.m_borders[i] = kSignedMap.borders[i];
    maps.v_borders[i] = kUnsignedMap.borders[i];
  }
  for (uint32_t i = 0; i < DynamicMap::kKeys; ++i) {
    maps.m_first[i] = kSignedMap.first[i];
    maps.v_first[i] = kUnsignedMap.first[i];
  }
  return maps;
}
__device__ constexpr Maps kMaps = make_maps();

// Where element i of the parameter lies, in tensors whose rows are apart of fewer than 2^31 elements.
__device__ __forceinline__ int64_t pack_place(const Tensor& t, int64_t i) {
  if (t.columns == t.p_stride) return i;
  const auto element = static_cast<uint32_t>(i), columns = static_cast<uint32_t>(t.columns);
  return static_cast<int64_t>(element / columns) * t.p_stride + element % columns;
}

// 1 / x and the root of x as the hardware has them, off by 2^-22; numbers below 2^-126 are zeros. Moments of
// 8 bits are off by more, and the exact ones would be a third of all instructions.
__device__ __forceinline__ float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float root_of(float x) {
  float y;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ void update(const AdamWFactors& f, float gradient, float& p, float& m, float& v) {
  const float g = gradient * f.gradient;
  m = f.beta1 * m + f.one_minus_beta1 * g;
  v = f.beta2 * v + f.one_minus_beta2 * g * g;
  p = p * f.keep - f.step_size * m * reciprocal(root_of(v) * f.inverse_root + f.eps);
}

// Numbers that are not negative order as their bits do.
__device__ __forceinline__ float warp_largest(float magnitude) {
  return __uint_as_float(__reduce_max_sync(kAllLanes, __float_as_uint(magnitude)));
}
__device__ __forceinline__ float inverse_of(float absmax) {
  return absmax >= kSmallest ? reciprocal(absmax) : 0.0f;
}
__device__ __forceinline__ uint32_t m_code(const Maps& maps, float m, float inverse) {
  return signed_code(nearest_magnitude(maps.m_borders, maps.m_first, fabsf(m) * inverse), m < 0);
}
__device__ __forceinline__ uint32_t v_code(const Maps& maps, float v, float inverse) {
  return nearest_magnitude(maps.v_borders, maps.v_first, v * inverse);
}

// A whole block in packs.
template <class P, bool kStochastic>
__device__ __forceinline__ void step_block(const Tensor& t, const AdamWFactors& f, const Maps& maps,
                                           int64_t block) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t begin = block * kBlock + lane * kHalf;
  Pack<float, kHalf> g[2], p[2];
  uint32_t m_codes[2], v_codes[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t first = begin + h * (kBlock / 2);
    g[h] = load<float, kHalf>(t.g + first);
    p[h] = load_floats<P, kHalf>(t.p, pack_place(t, first));
    m_codes[h] = *reinterpret_cast<const uint32_t*>(t.m_codes + first);
    v_codes[h] = *reinterpret_cast<const uint32_t*>(t.v_codes + first);
  }
  const float m_scale = t.m_absmax[block], v_scale = t.v_absmax[block];
  float m[2][kHalf], v[2][kHalf], m_largest = 0, v_largest = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t first = begin + h * (kBlock / 2);
#pragma unroll
    for (int j = 0; j < kHalf; ++j) {
      m[h][j] = maps.m_values[m_codes[h] >> 8 * j & 0xff] * m_scale;
      v[h][j] = maps.v_values[v_codes[h] >> 8 * j & 0xff] * v_scale;
      update(f, g[h].at[j], p[h].at[j], m[h][j], v[h][j]);
      m_largest = fmaxf(m_largest, fabsf(m[h][j]));
      v_largest = fmaxf(v_largest, v[h][j]);
    }
    store(t.g + first, Pack<float, kHalf>{});
    if constexpr (kStochastic && sizeof(P) == 2)
      store_stochastic<kHalf>(t.p, pack_place(t, first), p[h], adamw_words<kHalf>(f, t.stream, first),
                              for_weight);
    else
      store_floats<P, kHalf>(t.p, pack_place(t, first), p[h]);
  }
  m_largest = warp_largest(m_largest);
  v_largest = warp_largest(v_largest);
  if (lane == 0) {
    t.m_absmax[block] = m_largest;
    t.v_absmax[block] = v_largest;
  }
  const float m_inverse = inverse_of(m_largest), v_inverse = inverse_of(v_largest);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    uint32_t m_new = 0, v_new = 0;
#pragma unroll
    for (int j = 0; j < kHalf; ++j) {
      m_new |= m_code(maps, m[h][j], m_inverse) << 8 * j;
      v_new |= v_code(maps, v[h][j], v_inverse) << 8 * j;
    }
    const int64_t first = begin + h * (kBlock / 2);
    *reinterpret_cast<uint32_t*>(t.m_codes + first) = m_new;
    *reinterpret_cast<uint32_t*>(t.v_codes + first) = v_new;
  }
}

// A block that is cut short or does not lie at packs, one element after another: the first round finds the
// absmax, the second computes the step again and writes it. Codes past the tensor's end become those of zero.
template <class P, bool kStochastic>
__device__ __noinline__ void step_block_by_elements(const Tensor& t, const AdamWFactors& f, const Maps& maps,
                                                    int64_t block) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float m_scale = t.m_absmax[block], v_scale = t.v_absmax[block];
  float m_inverse = 0, v_inverse = 0, m_largest = 0, v_largest = 0;
  for (const bool last : {false, true}) {
    for (int64_t i = block * kBlock + lane; i < (block + 1) * kBlock; i += 32) {
      float m = 0, v = 0;
      if (i < t.count) {
        P* at = static_cast<P*>(t.p) + element_place(i, t.columns, t.p_stride);
        float p = to_float(*at);
        m = maps.m_values[t.m_codes[i]] * m_scale;
        v = maps.v_values[t.v_codes[i]] * v_scale;
        update(f, t.g[i], p, m, v);
        if (last) {
          t.g[i] = 0;
          if constexpr (kStochastic && sizeof(P) == 2)
            store_stochastic<1>(at, 0, {p}, adamw_words<1>(f, t.stream, i), for_weight);
          else
            *at = from_float<P>(p);
        }
      }
      m_largest = fmaxf(m_largest, fabsf(m));
      v_largest = fmaxf(v_largest, v);
      if (!last) continue;
      t.m_codes[i] = static_cast<uint8_t>(m_code(maps, m, m_inverse));
      t.v_codes[i] = static_cast<uint8_t>(v_code(maps, v, v_inverse));
    }
    if (last) break;
    m_largest = warp_largest(m_largest);
    v_largest = warp_largest(v_largest);
    m_inverse = inverse_of(m_largest);
    v_inverse = inverse_of(v_largest);
  }
  if (lane != 0) return;
  t.m_absmax[block] = m_largest;
  t.v_absmax[block] = v_largest;
}

template <class P, bool kStochastic>
__device__ __forceinline__ void step_blocks(const Tensor& t, const AdamWFactors& f, const Maps& maps,
                                            int64_t begin, int64_t end) {
  for (int64_t block = begin + threadIdx.x / 32; block < end; block += kWarps) {
    if (t.vectors && (block + 1) * kBlock <= t.count)
      step_block<P, kStochastic>(t, f, maps, block);
    else
      step_block_by_elements<P, kStochastic>(t, f, maps, block);
  }
}

template <bool kStochastic>
__global__ void __launch_bounds__(kThreads, 3)
    step_kernel(const __grid_constant__ Table<Tensor> table, const AdamWFactors* factors) {
  __shared__ Maps maps;
  __shared__ Tensor t;
  __shared__ AdamWFactors f;
  using Words = Pack<uint32_t, 4>;
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(sizeof(Maps) / sizeof(Words));
       i += kThreads)
    reinterpret_cast<Words*>(&maps)[i] = reinterpret_cast<const Words*>(&kMaps)[i];
  if (threadIdx.x == 0) {
    t = table.of(static_cast<int32_t>(blockIdx.x));
    f = *factors;
  }
  __syncthreads();
  const int64_t begin = (static_cast<int32_t>(blockIdx.x) - t.first_block) * (kThreadBlock / kBlock);
  const int64_t end = min((t.count + kBlock - 1) / kBlock, begin + kThreadBlock / kBlock);
  if (t.bf16_p)
    step_blocks<bf16, kStochastic>(t, f, maps, begin, end);
  else
    step_blocks<float, false>(t, f, maps, begin, end);
}

Tensor make_tensor(const KernelContext& c, int i) {
  const Operand* o = c.updates + i * kUpdates;
  const Operand &p = o[0], &g = o[5];
  Tensor t{};
  t.p = p.data, t.g = g.as<float>();
  t.m_codes = o[1].as<uint8_t>(), t.m_absmax = o[2].as<float>();
  t.v_codes = o[3].as<uint8_t>(), t.v_absmax = o[4].as<float>();
  t.stream = adamw_stream(c, i);
  t.count = p.rows * p.row_size;
  t.columns = static_cast<int32_t>(p.row_size);
  t.p_stride = static_cast<int32_t>(p.row_stride);
  const bool dense = p.row_stride == p.row_size;
  t.vectors = (dense || t.count < int64_t{1} << 31) && packs_of_four(p) && packs_of_four(g) &&
              packs_of_four(o[1]) && packs_of_four(o[3]);
  t.bf16_p = p.dtype == DType::bf16;
  return t;
}

}  // namespace

void adamw_8bit_cuda(const KernelContext& c, void* stream) {
  const AdamWFactors* factors = prepare_adamw_factors(c, stream);
  const auto kernel = rounds_stochastically(c) ? step_kernel<true> : step_kernel<false>;
  for_tables<Tensor>(
      c.num_updates / kUpdates, kThreadBlock, [&](int i) { return make_tensor(c, i); },
      [&](const Table<Tensor>& table) {
        kernel<<<static_cast<unsigned>(table.blocks), kThreads, 0, as_stream(stream)>>>(table, factors);
      });
}

}  // namespace serval
