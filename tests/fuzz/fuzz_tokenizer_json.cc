// Any bytes as a tokenizer.json: it loads and handles a fixed set of texts, or ends in one UserError.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace serval;
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  static const std::string texts[] = {"", "Hello  world\n <s>x</s> 123",
                                      "na\xC3\xAF"
                                      "ve e\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80 \xE2\x96\x81",
                                      "\xFF\xE4\xBD"
                                      "a\xF0\x9F",
                                      std::string(200, 'a') + std::string(50, ' ')};
  try {
    const Tokenizer tokenizer = Tokenizer::from_json(file, Json::object(), "tokenizer.json");
    for (const std::string& text : texts) {
      const Encoding encoding = tokenizer.encode(text);
      for (const Encoding::Span& span : encoding.spans)
        if (span.begin < 0 || span.end < span.begin || span.end > static_cast<int64_t>(text.size()))
          __builtin_trap();
      (void)tokenizer.decode(encoding.ids, /*skip_special_tokens=*/true);
      DecodeStream stream(tokenizer);
      for (const int32_t id : encoding.ids) (void)stream.push(id);
      (void)stream.finish();
    }
  } catch (const UserError&) {
  }
  return 0;
}
