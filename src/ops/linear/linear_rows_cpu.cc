// Row kernels of the linear op, once per instruction set: dropout of the adapter's input and the bias
// gradient.
#include "base/parallel.h"
#include "ops/common/kernel_math.h"
#include "ops/common/philox_words.h"
#include "ops/linear/linear_calls.h"

namespace serval::SERVAL_ISA {
namespace {

PhiloxKey key_of(const DropoutArgs& args) {
  return philox_key(static_cast<uint64_t>(args.random[0]), args.name_hash,
                    static_cast<uint32_t>(args.random[1]), static_cast<uint32_t>(args.random[2]));
}

}  // namespace

void linear_dropout(const DropoutArgs& args) {
  const PhiloxKey key = key_of(args);
  const int64_t size = args.x.row_size;
  const double keep = 1 - args.p;
  const uint32_t limit = dropout_limit(args.p);
  with_type(args.x.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;
    const A scale = static_cast<A>(1 / keep);
    parallel_for(0, args.x.rows, 1 + 4096 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* x = args.x.row<T>(row);
        T* out = static_cast<T*>(args.out) + row * args.out_stride;
        const uint64_t first =
            static_cast<uint64_t>(args.first_row + row) * static_cast<uint64_t>((size + 3) / 4);
        for (int64_t i = 0; i < size; i += 4 * kPhiloxBlocks) {
          uint32_t words[4 * kPhiloxBlocks];
          philox_words(key, first + static_cast<uint64_t>(i / 4), words);
          const int64_t count = size - i < 4 * kPhiloxBlocks ? size - i : 4 * kPhiloxBlocks;
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
