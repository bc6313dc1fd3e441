// Rows worked on in parallel and taken in their order: a window of them at a time, so that memory does not
// grow with the data. The result, and which wrong row is reported (the first one), do not depend on the
// number of threads.
//
//   for_each_row(rows, progress, [&](int64_t row) { return tokenize(rows.row(row)); },
//                [&](int64_t row, Tokens tokens) { out.add(tokens); });
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "data/dataset.h"

namespace serval {

using TokenizeProgress = std::function<void(int64_t rows_done, int64_t rows)>;

template <class Work, class Take>
void for_each_row(const DatasetReader& rows, const TokenizeProgress& progress, Work&& work, Take&& take) {
  const int64_t total = rows.size(), window = 256 * std::max(1, num_threads());
  std::vector<std::invoke_result_t<Work, int64_t>> results;
  std::vector<std::exception_ptr> errors;
  for (int64_t begin = 0; begin < total; begin += window) {
    const int64_t end = std::min(begin + window, total);
    results.clear();
    results.resize(static_cast<size_t>(end - begin));
    errors.assign(results.size(), nullptr);
    parallel_for(begin, end, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        const auto slot = static_cast<size_t>(i - begin);
        try {
          results[slot] = work(i);
        } catch (...) {
          errors[slot] = std::current_exception();
        }
      }
    });
    for (size_t slot = 0; slot < results.size(); ++slot) {
      if (errors[slot]) std::rethrow_exception(errors[slot]);
      take(begin + static_cast<int64_t>(slot), std::move(results[slot]));
    }
    rows.forget(begin, end);
    if (progress) progress(end, total);
  }
}

}  // namespace serval
