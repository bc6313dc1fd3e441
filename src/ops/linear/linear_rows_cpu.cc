// Row kernels of the linear op, once per instruction set: dropout of the adapter's input and the bias
// gradient.
#include "base/parallel.h"
#include "base/philox.h"
#include "ops/common/kernel_math.h"
#include "ops/linear/linear_calls.h"

namespace serval::SERVAL_ISA {
namespace {

constexpr int64_t kBlocks = 16;

// The words of 16 Philox blocks from `first` on, in order, as base/philox.h computes them.
SERVAL_INLINE void philox_words(const PhiloxKey& key, uint64_t first, uint32_t words[4 * kBlocks]) {
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks], k0 = key.key[0], k1 = key.key[1];
  for (int64_t i = 0; i < kBlocks; ++i) {
    const uint64_t index = first + static_cast<uint64_t>(i);
    c0[i] = static_cast<uint32_t>(index), c1[i] = static_cast<uint32_t>(index >> 32);
    c2[i] = key.counter_high[0], c3[i] = key.counter_high[1];
  }
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (int64_t i = 0; i < kBlocks; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0[i], p1 = uint64_t{0xCD9E8D57u} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = static_cast<uint32_t>(p1);
      c3[i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int64_t i = 0; i < kBlocks; ++i)
    words[4 * i] = c0[i], words[4 * i + 1] = c1[i], words[4 * i + 2] = c2[i], words[4 * i + 3] = c3[i];
}

PhiloxKey key_of(const DropoutArgs& args) {
  return philox_key(static_cast<uint64_t>(args.random[0]), args.name_hash,
                    static_cast<uint32_t>(args.random[1]), static_cast<uint32_t>(args.random[2]));
}

}  // namespace

void linear_dropout(const DropoutArgs& args) {
  const PhiloxKey key = key_of(args);
  const int64_t size = args.x->row_size;
  const double keep = 1 - args.p;
  // An element is kept when its word, as a fraction of 2^32, is below 1 - p.
  const uint32_t limit = keep < 1 ? static_cast<uint32_t>(keep * 4294967296.0) : UINT32_MAX;
  with_type(args.x->dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const A scale = static_cast<A>(1 / keep);
    parallel_for(0, args.x->rows, 1 + 4096 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* x = args.x->row<T>(row);
        T* out = static_cast<T*>(args.out) + row * args.out_stride;
        const uint64_t first = static_cast<uint64_t>(row) * static_cast<uint64_t>((size + 3) / 4);
        for (int64_t i = 0; i < size; i += 4 * kBlocks) {
          uint32_t words[4 * kBlocks];
          philox_words(key, first + static_cast<uint64_t>(i / 4), words);
          const int64_t count = size - i < 4 * kBlocks ? size - i : 4 * kBlocks;
          if (args.accumulate) {
#pragma omp simd
            for (int64_t j = 0; j < count; ++j)
              out[i + j] = store<T>(load(out[i + j]) + (words[j] < limit ? load(x[i + j]) * scale : A(0)));
          } else {
#pragma omp simd
            for (int64_t j = 0; j < count; ++j)
              out[i + j] = store<T>(words[j] < limit ? load(x[i + j]) * scale : A(0));
          }
        }
      }
    });
  });
}

void linear_column_sums(const ColumnSumsArgs& args) {
  const Operand &dy = args.dy, &target = args.target;
  with_type(dy.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    parallel_for(0, dy.row_size, 64, [&](int64_t begin, int64_t end) {
      A* sum = target.as<A>();
      for (int64_t row = 0; row < dy.rows; ++row) {
        const T* d = dy.row<T>(row);
        for (int64_t i = begin; i < end; ++i) sum[i] += load(d[i]);
      }
    });
  });
}

}  // namespace serval::SERVAL_ISA
