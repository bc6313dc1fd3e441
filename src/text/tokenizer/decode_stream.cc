#include "base/text.h"
#include "text/tokenizer.h"

namespace serval {
namespace {

// A run of bytes that never becomes a character is let go after this many ids.
constexpr size_t kMaxPending = 256;
constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace

DecodeStream::DecodeStream(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

std::string DecodeStream::push(int32_t id) {
  pending_.push_back(id);
  const std::string text = tokenizer_.decode(pending_, skip_special_tokens_);
  // The last character may still be a part of one.
  if (ends_with(text, kReplacementCharacter) && pending_.size() < kMaxPending) return "";
  return take(text);
}

std::string DecodeStream::finish() {
  std::string rest = take(tokenizer_.decode(pending_, skip_special_tokens_));
  pending_.clear();
  prefix_ = 0;
  return rest;
}

// What `text`, the whole of pending_, holds behind the ids that were emitted before; the new ids are the next
// context, so that decoders that treat the start of a text in their own way do so only once.
std::string DecodeStream::take(const std::string& text) {
  const std::span<const int32_t> ids = pending_;
  const std::string before = tokenizer_.decode(ids.first(prefix_), skip_special_tokens_);
  std::string fresh;
  if (starts_with(text, before)) {
    fresh = text.substr(before.size());
  } else {
    fresh = tokenizer_.decode(ids.subspan(prefix_), skip_special_tokens_);
  }
  if (fresh.empty() && pending_.size() < kMaxPending) return fresh;
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(prefix_));
  prefix_ = pending_.size();
  return fresh;
}

}  // namespace serval
