// What every tokenizer fuzz target does with the parts that a file became: a fixed set of texts there and
// back, and the tokenizer written as a tokenizer.json, which must be readable.
#pragma once
#include <cstdio>
#include <string>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/tokenizer/parts.h"
#include "text/tokenizer_files.h"

namespace serval {

inline void check_written(const Tokenizer& tokenizer) {
  const std::string written = tokenizer_json(tokenizer);
  try {
    const Tokenizer again = Tokenizer::from_json(written, tokenizer.config(), "written");
    if (again.vocab_size() != tokenizer.vocab_size()) __builtin_trap();
  } catch (const UserError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    __builtin_trap();
  }
}

// read() gives TokenizerParts or throws a UserError; anything else is a finding.
template <class Read>
void use_tokenizer(const Read& read) {
  static const std::string texts[] = {"", "Hello  world\n <s>x</s> 123",
                                      "na\xC3\xAF"
                                      "ve e\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80 \xE2\x96\x81",
                                      "\xFF\xE4\xBD"
                                      "a\xF0\x9F",
                                      std::string(200, 'a') + std::string(50, ' ')};
  try {
    const Tokenizer tokenizer = Tokenizer::from_parts(read());
    check_written(tokenizer);
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
  } catch (const UserError& error) {
    const std::string message = error.what();
    if (message.empty() || message.find('\n') != std::string::npos) __builtin_trap();
  }
}

}  // namespace serval
