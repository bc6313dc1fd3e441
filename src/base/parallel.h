// The threads of the program: one OpenMP pool, shared with oneDNN. A range is cut into equal parts that
// depend on its size, the grain and the thread count alone, so results are the same on every call.
//
//   parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
//     for (int64_t row = begin; row < end; ++row) normalize(row);
//   });
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace serval {

// Threads that a parallel region uses. At first: OMP_NUM_THREADS, else the physical cores this process may
// use.
int num_threads();
void set_num_threads(int count);  // 0: back to the default
bool in_parallel();               // already inside parallel_for: an inner one runs serially

namespace detail {
using RangeFunction = void (*)(void* context, int64_t begin, int64_t end);
void run_parallel(int64_t begin, int64_t end, int64_t grain, RangeFunction function, void* context);
void run_phases(int64_t parts, int64_t phases, RangeFunction function, void* context);
}  // namespace detail

// Calls f(begin, end) on disjoint parts that cover the range, none smaller than `grain` unless the range is.
// The first exception of any part is thrown again once all parts have ended.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, F&& f) {
  using Function = std::remove_reference_t<F>;
  auto call = [](void* context, int64_t from, int64_t to) { (*static_cast<Function*>(context))(from, to); };
  void* context = const_cast<void*>(static_cast<const void*>(std::addressof(f)));
  detail::run_parallel(begin, end, grain, call, context);
}

// Calls f(phase, part) for every part of every phase. A phase begins when all parts of the one before have
// ended; what those wrote can be read. After an exception the rest is left out.
//
//   parallel_phases(num_threads(), 2, [&](int64_t phase, int64_t part) { phase == 0 ? pack(part) : use(part);
//   });
template <class F>
void parallel_phases(int64_t parts, int64_t phases, F&& f) {
  using Function = std::remove_reference_t<F>;
  auto call = [](void* context, int64_t phase, int64_t part) {
    (*static_cast<Function*>(context))(phase, part);
  };
  void* context = const_cast<void*>(static_cast<const void*>(std::addressof(f)));
  detail::run_phases(parts, phases, call, context);
}

}  // namespace serval
