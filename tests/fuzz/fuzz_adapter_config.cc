// Any bytes as adapter_config.json: refused by a UserError, or it says of each module whether and how it is
// adapted, and says the same after it was written and read again.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "formats/peft.h"

namespace {

const char* const kModules[] = {"model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj",
                                "layers.1.experts.2.up_proj", "lm_head"};

void check_round_trip(const serval::AdapterConfig& config) {
  const std::string text = config.to_json().dump(2);
  const auto again = serval::AdapterConfig::from_json(serval::Json::parse(text, "again"), "again");
  for (const char* module : kModules) {
    const auto a = config.match(module), b = again.match(module);
    if (a.has_value() != b.has_value()) std::abort();
    if (a && (a->rank != b->rank || a->rank < 1 || a->scale != b->scale)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check_round_trip(serval::AdapterConfig::from_json(serval::Json::parse(text, "f"), "f"));
  } catch (const serval::UserError& error) {
    const std::string_view message = error.what();
    if (message.empty() || message.find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
