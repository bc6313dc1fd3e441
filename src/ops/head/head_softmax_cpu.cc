#include "base/error.h"
#include "base/parallel.h"
#include "ops/common/kernel_math.h"
#include "ops/head/head_kernels.h"

namespace serval::SERVAL_ISA {

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
        A lanes[16];
        for (int lane = 0; lane < 16; ++lane) lanes[lane] = x[0];
        int64_t i = 0;
        for (; i + 16 <= size; i += 16)
          for (int lane = 0; lane < 16; ++lane)
            lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
        A most = lanes[0];
        for (int lane = 1; lane < 16; ++lane) most = lanes[lane] > most ? lanes[lane] : most;
        for (; i < size; ++i) most = x[i] > most ? x[i] : most;
        const A at_label = x[label];
        for (int lane = 0; lane < 16; ++lane) lanes[lane] = 0;
        for (i = 0; i + 16 <= size; i += 16) {
          for (int lane = 0; lane < 16; ++lane) {
            const A e = exponential(x[i + lane] - most);
            x[i + lane] = e;
            lanes[lane] += e;
          }
        }
        A sum = 0;
        for (; i < size; ++i) {
          x[i] = exponential(x[i] - most);
          sum += x[i];
        }
        for (int lane = 0; lane < 16; ++lane) sum += lanes[lane];
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
        for (i = 0; i + 16 <= size; i += 16) {
          A values[16];
          for (int lane = 0; lane < 16; ++lane) values[lane] = x[i + lane];
          for (int lane = 0; lane < 16; ++lane) gradient[i + lane] = store<T>(values[lane] * scale);
        }
        for (; i < size; ++i) {
          const A value = x[i];
          gradient[i] = store<T>(value * scale);
        }
        gradient[label] = store<T>(label_gradient);
      }
    });
  });
}

}  // namespace serval::SERVAL_ISA
