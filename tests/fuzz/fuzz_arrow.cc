// Any bytes as a Parquet or Arrow file, through the plugin: rows, or one UserError. Apache Arrow's libraries
// are not instrumented; what they crash on is to be refused before they see it. Needs libserval_arrow.so: the
// environment variable SERVAL_ARROW_PLUGIN, or beside the program.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "data/dataset.h"
#include "scratch_file.h"

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  serval::fuzz::overwrite_scratch_file("PAR1");
  try {
    serval::open_dataset(serval::fuzz::scratch_path());
  } catch (const serval::UserError& error) {
    if (std::string_view(error.what()).find("plugin") != std::string_view::npos) {
      std::fprintf(stderr, "fuzz_arrow: %s\n", error.what());
      std::exit(1);
    }
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kRows = 2000;  // a file of a few bytes may truly hold billions of nulls
  serval::DatasetSource source{.path = serval::fuzz::scratch_path()};
  source.format = "parquet";
  serval::fuzz::overwrite_scratch_file({reinterpret_cast<const char*>(data), size});
  try {
    const auto rows = serval::open_dataset(source, serval::DataCache({.directory = "", .limit = 1 << 20}));
    const int64_t count = std::min(rows->size(), kRows);
    for (int64_t i = 0; i < count; ++i)
      if (!rows->row(i).is_object()) std::abort();
    // And back, to where other groups of rows begin.
    for (int64_t i = count - 1; i >= 0; i -= 300) rows->row(i);
  } catch (const serval::UserError& error) {
    if (std::string_view(error.what()).empty()) std::abort();
  }
  unlink(serval::fuzz::scratch_path().c_str());
  return 0;
}
