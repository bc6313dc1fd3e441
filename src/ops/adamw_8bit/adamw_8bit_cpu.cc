#include "ops/adamw/adamw_cpu.h"
#include "ops/adamw_8bit/dynamic_map.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int kUpdates = 6;          // operands of one tensor
constexpr int64_t kRun = kAdamWRun;  // a block
constexpr float kSmallest = 1e-37f;  // an absmax whose reciprocal is a normal number

// Codes past `size` are those of zero.
SERVAL_INLINE void quantize(const DynamicMap& map, const float* values, int64_t size, uint8_t* codes,
                            float* absmax) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < size; ++i) {
    const float magnitude = __builtin_fabsf(values[i]);
    largest = magnitude > largest ? magnitude : largest;
  }
  *absmax = largest;
  const float inverse = largest >= kSmallest ? 1 / largest : 0.0f;
  for (int64_t i = 0; i < kRun; ++i) codes[i] = nearest_code(map, i < size ? values[i] * inverse : 0.0f);
}

// The blocks [begin, end) of a tensor.
template <class P>
void step(const KernelContext& c, const AdamWFactors<float>& f, int tensor, int64_t begin, int64_t end) {
  const Operand* o = c.updates + tensor * kUpdates;
  const Operand &p = o[0], &g = o[5];
  const int64_t count = p.rows * p.row_size, stream = adamw_stream(c, tensor);
  float pp[kRun], m[kRun], v[kRun];
  uint32_t random[kRun];
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * kRun, size = count - first < kRun ? count - first : kRun;
    uint8_t *m_codes = o[1].as<uint8_t>() + first, *v_codes = o[3].as<uint8_t>() + first;
    float *m_absmax = o[2].as<float>() + block, *v_absmax = o[4].as<float>() + block;
    read_run<float, P>(p, first, size, pp);
    for (int64_t i = 0; i < size; ++i) {
      m[i] = kSignedMap.values[m_codes[i]] * *m_absmax;
      v[i] = kUnsignedMap.values[v_codes[i]] * *v_absmax;
    }
    float* gradient = g.as<float>() + first;
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) {
      adamw_update(f, gradient[i], pp[i], m[i], v[i]);
      gradient[i] = 0;
    }
    quantize(kSignedMap, m, size, m_codes, m_absmax);
    quantize(kUnsignedMap, v, size, v_codes, v_absmax);
    write_run<float, P>(p, first, size, pp, adamw_words(c, stream, first, random), for_weight);
  }
}

}  // namespace

void adamw_8bit_step(const KernelContext& c) {
  const AdamWFactors<float> factors = adamw_factors<float>(c);
  const int tensors = c.num_updates / kUpdates;
  const auto blocks_of = [&](int tensor) {
    const Operand& p = c.updates[tensor * kUpdates];
    return (p.rows * p.row_size + kRun - 1) / kRun;
  };
  int64_t blocks = 0;
  for (int tensor = 0; tensor < tensors; ++tensor) blocks += blocks_of(tensor);
  parallel_for(0, blocks, 16, [&](int64_t begin, int64_t end) {
    for_parts(tensors, begin, end, blocks_of, [&](int tensor, int64_t from, int64_t to, int64_t) {
      if (c.update(tensor * kUpdates).dtype == DType::bf16)
        step<BFloat16>(c, factors, tensor, from, to);
      else
        step<float>(c, factors, tensor, from, to);
    });
  });
}

}  // namespace serval::SERVAL_ISA
