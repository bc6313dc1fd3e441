// config.json: any bytes are either read or refused by one UserError.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "models/decoder_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const serval::DecoderConfig config =
        serval::read_decoder_config(serval::Json::parse(text, "config.json"), "config.json");
    SERVAL_CHECK(config.parameter_count() > 0);
    SERVAL_CHECK(static_cast<int64_t>(config.windows.size()) == config.num_hidden_layers);
    SERVAL_CHECK(static_cast<int64_t>(config.inverse_frequency.size()) * 2 == config.head_dim);
  } catch (const serval::UserError&) {
  }
  return 0;
}
