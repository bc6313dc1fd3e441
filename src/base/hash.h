// A 128-bit hash of content (XXH3): tells whether bytes are those of last time. Fast, and no protection
// against someone who wants two contents to look alike.
//
//   ContentHash hash;
//   hash.text("tokenizer").bytes(file.bytes());
//   const std::string name = hash.hex();   // 32 characters
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace serval {

class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;

  ContentHash& bytes(std::span<const std::byte> data);
  ContentHash& text(std::string_view text);  // with its length, so that "ab", "c" differs from "a", "bc"
  ContentHash& number(int64_t value);
  // The bytes of a whole file, without keeping it in memory.
  ContentHash& file(const std::string& path);
  std::string hex() const;

 private:
  void* state_;
};

uint64_t hash64(std::span<const std::byte> data);

}  // namespace serval
