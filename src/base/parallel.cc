#include "base/parallel.h"

#ifdef _OPENMP
#include <omp.h>
#else
// Fuzz targets are built by clang without its own OpenMP library, which would be a second pool: one thread
// then.
static int omp_get_max_threads() {
  return 1;
}
static int omp_get_num_threads() {
  return 1;
}
static int omp_get_thread_num() {
  return 0;
}
static int omp_in_parallel() {
  return 0;
}
#endif

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>

#include "base/cpu.h"

namespace serval {
namespace {

std::atomic<int> chosen_count{0};

int default_count() {
  static const int count = [] {
    const int allowed = std::max(1, omp_get_max_threads());
    return std::getenv("OMP_NUM_THREADS") != nullptr ? allowed : std::min(allowed, physical_cores());
  }();
  return count;
}

}  // namespace

int num_threads() {
  const int count = chosen_count.load(std::memory_order_relaxed);
  return count > 0 ? count : default_count();
}

void set_num_threads(int count) {
  chosen_count = std::max(0, count);
}

bool in_parallel() {
  return omp_in_parallel() != 0;
}

namespace detail {

void run_parallel(int64_t begin, int64_t end, int64_t grain, RangeFunction function, void* context) {
  if (begin >= end) return;
  const int64_t size = end - begin;
  const int64_t threads = num_threads();
  const int64_t parts = std::min(threads, size / std::max<int64_t>(1, grain));
  if (parts <= 1 || omp_in_parallel()) return function(context, begin, end);

  std::exception_ptr failure;
  // Always the whole team: libgomp ends and restarts threads whenever the team size changes.
#ifdef _OPENMP
#pragma omp parallel num_threads(static_cast<int>(threads))
#endif
  {
    // The system may grant fewer threads than asked for, so parts are dealt out.
    for (int64_t part = omp_get_thread_num(); part < parts; part += omp_get_num_threads()) {
      const int64_t from = begin + size / parts * part + std::min(part, size % parts);
      const int64_t to = from + size / parts + (part < size % parts ? 1 : 0);
      try {
        function(context, from, to);
      } catch (...) {
#ifdef _OPENMP
#pragma omp critical(serval_parallel_failure)
#endif
        if (!failure) failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

void run_phases(int64_t parts, int64_t phases, RangeFunction function, void* context) {
  if (parts <= 1 || omp_in_parallel()) {
    for (int64_t phase = 0; phase < phases; ++phase)
      for (int64_t part = 0; part < parts; ++part) function(context, phase, part);
    return;
  }
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
#ifdef _OPENMP
#pragma omp parallel num_threads(num_threads())
#endif
  for (int64_t phase = 0; phase < phases; ++phase) {
    for (int64_t part = omp_get_thread_num(); part < parts && !failed; part += omp_get_num_threads()) {
      try {
        function(context, phase, part);
      } catch (...) {
#ifdef _OPENMP
#pragma omp critical(serval_parallel_failure)
#endif
        if (!failure) failure = std::current_exception();
        failed = true;
      }
    }
    if (phase + 1 == phases) break;
#ifdef _OPENMP
#pragma omp barrier
#endif
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace detail
}  // namespace serval
