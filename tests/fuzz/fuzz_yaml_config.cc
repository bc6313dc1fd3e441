// Any text as a training configuration: it ends in a UserError, or in a configuration that its written form
// gives again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "config/arguments.h"
#include "config/train_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace serval;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const ResolvedTrain first = resolve_train(parse_config(train_table(), text, "fuzz.yaml"));
    print_resolved(first.settings);
    try {
      const Settings again = parse_config(train_table(), to_yaml(first.settings), "again.yaml");
      if (!(resolve_train(again).config == first.config)) std::abort();
    } catch (const UserError&) {
      std::abort();
    }
  } catch (const UserError&) {
  }
  return 0;
}
