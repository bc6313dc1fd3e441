// Any bytes as a CSV, text, compressed or Arrow file: it is read to the end or refused by a UserError. Every
// row is read twice, in order and backwards, and must be the same.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "data/dataset.h"
#include "scratch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // The first byte picks the kind, the rest is the file.
  static constexpr const char* kFormats[] = {"csv", "tsv", "text", "json", ""};
  static constexpr const char* kUnits[] = {"line", "paragraph", "document"};
  serval::DatasetSource source{.path = serval::fuzz::scratch_path()};
  source.format = kFormats[data[0] % 5];
  source.sample_by = kUnits[data[0] / 5 % 3];
  serval::fuzz::overwrite_scratch_file({reinterpret_cast<const char*>(data) + 1, size - 1});
  try {
    const auto rows = serval::open_dataset(source, serval::DataCache({.directory = "", .limit = 1 << 20}));
    std::string forwards, backwards;
    for (int64_t i = 0; i < rows->size(); ++i) forwards += rows->row(i).dump() + rows->where(i) + "\n";
    for (int64_t i = rows->size() - 1; i >= 0; --i)
      backwards = rows->row(i).dump() + rows->where(i) + "\n" + backwards;
    if (forwards != backwards) std::abort();
  } catch (const serval::UserError& error) {
    if (std::string_view(error.what()).empty()) std::abort();
  }
  unlink(serval::fuzz::scratch_path().c_str());
  return 0;
}
