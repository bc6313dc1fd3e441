#include <type_traits>

#include "base/error.h"
#include "base/parallel.h"
#include "ops/common/lanes.h"
#include "ops/head/head_kernels.h"

namespace serval::SERVAL_ISA {
namespace {

template <class A>
SERVAL_INLINE A largest(const A* x, int64_t size) {
  Lanes<A> most = all_lanes(x[0]);
  A last = x[0];
  for_lanes(size, [&](int64_t i, auto count) {
    if constexpr (!std::is_same_v<decltype(count), AllLanes>) {
      for (int64_t j = 0; j < count; ++j) last = x[i + j] > last ? x[i + j] : last;
    } else {
      const auto values = read_lanes(x + i, count);
      most = values > most ? values : most;
    }
  });
  for (int64_t lane = 0; lane < kLanes; ++lane) last = most[lane] > last ? most[lane] : last;
  return last;
}

}  // namespace

void head_softmax(const SoftmaxArgs& args) {
  with_type(args.dtype, [&](auto tag) {
    using T = decltype(tag);
    using A = Accumulator<T>;  // the wide type
    const int64_t size = args.vocab_size;
    parallel_for(0, args.rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        A* x = static_cast<A*>(args.logits) + row * size;
        const int32_t label = args.labels[row];
        if (label < 0 || label >= size)
          check_failed("label < vocab_size", "head_softmax_cpu.cc", __LINE__, "");
        const A at_label = x[label], most = largest(x, size);
        Lanes<A> sums{};
        A sum = 0;
        for_lanes(size, [&](int64_t i, auto count) {
          const Lanes<A> e = exponential(read_lanes(x + i, count) - most);
          write_lanes(x + i, e, count);
          if constexpr (std::is_same_v<decltype(count), AllLanes>)
            sums += e;
          else
            for (int64_t j = 0; j < count; ++j) sum += e[j];
        });
        sum += sum_of<A>(sums);
        args.nll[row] = static_cast<double>(most - at_label) + __builtin_log(static_cast<double>(sum));
        args.correct[row] = at_label == most ? 1 : 0;
        A weight = 0;
        if (args.row_weights != nullptr)
          weight = static_cast<A>(args.row_weights[row]);
        else if (args.upstream != nullptr)
          weight = -static_cast<const A*>(args.upstream)[row * args.upstream_stride];
        else
          continue;
        // In place and forwards: the gradient is never wider than the logit it replaces.
        const A scale = weight / sum;
        const A label_gradient = x[label] * scale - weight;
        T* gradient = reinterpret_cast<T*>(x);
        for_lanes(size, [&](int64_t i, auto count) {
          write_lanes(gradient + i, read_lanes(x + i, count) * scale, count);
        });
        gradient[label] = store<T>(label_gradient);
      }
    });
  });
}

}  // namespace serval::SERVAL_ISA
