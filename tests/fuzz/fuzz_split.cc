// Any text as a split, a file's path or a pattern: bounds lie inside the rows, and nothing else happens.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "data/source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  serval::split_of_file(text);
  const size_t half = size / 2;
  serval::glob_matches(text.substr(0, half), text.substr(half));
  try {
    for (const serval::SplitPart& part : serval::parse_split(text, "d")) {
      for (const int64_t rows : {int64_t{1}, int64_t{7}, int64_t{1} << 40}) {
        try {
          const auto [begin, end] = part.rows_of(rows, "d");
          if (begin < 0 || begin >= end || end > rows) std::abort();
        } catch (const serval::UserError&) {
        }
      }
    }
  } catch (const serval::UserError&) {
  }
  return 0;
}
