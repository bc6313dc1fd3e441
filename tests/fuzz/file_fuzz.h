// What each target of one kind of dataset file does with a file: reads every row twice, in order and
// backwards. Both must say the same, or end in a UserError.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "data/dataset.h"
#include "scratch_file.h"

namespace serval::fuzz {

inline void read_both_ways(DatasetSource source, std::string_view file) {
  source.path = scratch_path();
  overwrite_scratch_file(file);
  try {
    const auto rows = open_dataset(source, DataCache({.directory = "", .limit = 1 << 20}));
    std::string forwards, backwards;
    for (int64_t i = 0; i < rows->size(); ++i) forwards += rows->row(i).dump() + rows->where(i) + "\n";
    for (int64_t i = rows->size() - 1; i >= 0; --i)
      backwards = rows->row(i).dump() + rows->where(i) + "\n" + backwards;
    if (forwards != backwards) std::abort();
  } catch (const UserError& error) {
    if (std::string_view(error.what()).empty()) std::abort();
  }
  unlink(scratch_path().c_str());
}

}  // namespace serval::fuzz
