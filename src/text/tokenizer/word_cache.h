// The tokens of short words that a thread met lately: most words of a text are among few thousand.
//
//   WordCache& cache = WordCache::of_this_thread();
//   const WordCache::Key key = WordCache::key_of(word, text_end);
//   if (const WordCache::Entry* known = cache.find(key, owner)) ... else cache.put(key, owner, tokens);
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "text/tokenizer/token_model.h"

namespace serval {

class WordCache {
 public:
  static constexpr size_t kMaxWord = 23;   // bytes
  static constexpr size_t kMaxTokens = 5;  // of a word

  struct Key {
    uint64_t part[3];  // the bytes of the word, zeros, and its size in the last byte
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct alignas(64) Entry {
    Key key;
    uint32_t owner;  // 0: an empty entry
    uint8_t count;
    uint8_t begin[kMaxTokens], end[kMaxTokens];  // bytes of the word
    int32_t id[kMaxTokens];
  };

  static WordCache& of_this_thread() {
    thread_local WordCache cache;
    return cache;
  }

  // 1 <= word.size() <= kMaxWord. `readable_end`: how far bytes behind the word may be read.
  static Key key_of(std::string_view word, const char* readable_end) {
    Key key{};
    const size_t size = word.size();
    if (static_cast<size_t>(readable_end - word.data()) >= sizeof key) {
      std::memcpy(&key, word.data(), sizeof key);
      // Bytes behind the word are cleared.
      const size_t last = size / 8;
      key.part[last] &= (uint64_t{1} << (size % 8 * 8)) - 1;
      for (size_t i = last + 1; i < 3; ++i) key.part[i] = 0;
    } else {
      std::memcpy(&key, word.data(), size);
    }
    key.part[2] |= static_cast<uint64_t>(size) << 56;
    return key;
  }

  // Asks for the memory that find() and put() will look at.
  void prefetch(const Key& key, uint32_t owner) const {
    const Entry* entry = &entries_[slot_of(key, owner)];
    __builtin_prefetch(entry);
    __builtin_prefetch(entry + 1);
  }
  // `owner` names a tokenizer and how it reads bytes; never 0.
  const Entry* find(const Key& key, uint32_t owner) const {
    const Entry* entry = &entries_[slot_of(key, owner)];
    if (entry->key == key && entry->owner == owner) return entry;
    ++entry;
    return entry->key == key && entry->owner == owner ? entry : nullptr;
  }
  // Tokens of more than kMaxTokens are not kept. The newer of the two entries of a slot stays.
  void put(const Key& key, uint32_t owner, std::span<const ModelToken> tokens) {
    if (tokens.size() > kMaxTokens) return;
    Entry* entry = &entries_[slot_of(key, owner)];
    entry[1] = entry[0];
    entry->key = key;
    entry->owner = owner;
    entry->count = static_cast<uint8_t>(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      entry->begin[i] = static_cast<uint8_t>(tokens[i].begin);
      entry->end[i] = static_cast<uint8_t>(tokens[i].end);
      entry->id[i] = tokens[i].id;
    }
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 15;  // of two entries each
  WordCache() : entries_(std::make_unique<Entry[]>(2 * kSlots)) {}
  static size_t slot_of(const Key& key, uint32_t owner) {
    uint64_t hash = (key.part[0] ^ owner) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ (hash >> 32) ^ key.part[1]) * 0xC2B2AE3D27D4EB4Fu;
    hash = (hash ^ (hash >> 29) ^ key.part[2]) * 0x9E3779B97F4A7C15u;
    return (hash >> 49) * 2;
  }
  std::unique_ptr<Entry[]> entries_;
};

}  // namespace serval
