// Any bytes as a dataset file: it is read to the end or refused by a UserError, and nothing else happens.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "data/convert.h"
#include "data/dataset.h"
#include "data/row_shape.h"
#include "scratch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // The first byte picks the options, the rest is the file.
  const auto names = serval::dataset_shape_names();
  serval::ShapeOptions options{.text_field = (data[0] & 2) != 0 ? "a" : "text",
                               .has_chat_template = (data[0] & 1) != 0,
                               .use = (data[0] & 4) != 0 ? serval::RowUse::prompts : serval::RowUse::any,
                               .allow_media = (data[0] & 8) != 0};
  if (const size_t format = data[0] >> 4; format < names.size()) options.format = names[format].first;
  serval::fuzz::overwrite_scratch_file({reinterpret_cast<const char*>(data) + 1, size - 1});
  try {
    const auto rows = serval::open_dataset(serval::fuzz::scratch_path());
    const serval::DatasetShape shape = serval::detect_shape(*rows, options);
    for (int64_t i = 0; i < rows->size(); ++i) {
      const serval::TrainingRow row = serval::read_training_row(rows->row(i), shape, rows->where(i));
      if (row.kind() != shape.kind) std::abort();
      const serval::Json json = serval::converted_row(row, shape, serval::ConvertTo::same, rows->where(i));
      if (!json.is_object()) std::abort();
    }
  } catch (const serval::UserError& error) {
    if (std::string_view(error.what()).empty()) std::abort();
  }
  unlink(serval::fuzz::scratch_path().c_str());
  return 0;
}
