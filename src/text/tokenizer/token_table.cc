#include "text/tokenizer/token_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace serval {

namespace {

uint64_t mix(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const auto product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Tokens are short: eight bytes at a time, and one multiplication for each eight.
uint32_t hash_of(std::string_view text) {
  constexpr uint64_t kFirst = 0x9E3779B97F4A7C15u, kSecond = 0xC2B2AE3D27D4EB4Fu;
  uint64_t hash = text.size() * kSecond;
  const char* at = text.data();
  size_t left = text.size();
  for (; left > 8; left -= 8, at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, at, 8);
    hash = mix(hash ^ word, kFirst);
  }
  uint64_t word = 0;
  if (left >= 4) {
    uint32_t head = 0, tail = 0;
    std::memcpy(&head, at, 4);
    std::memcpy(&tail, at + left - 4, 4);
    word = (uint64_t{head} << 32) | tail;
  } else if (left > 0) {
    word = (uint64_t{static_cast<unsigned char>(at[0])} << 16) |
           (uint64_t{static_cast<unsigned char>(at[left / 2])} << 8) |
           static_cast<unsigned char>(at[left - 1]);
  }
  return static_cast<uint32_t>(mix(hash ^ word, kFirst) >> 16);
}

}  // namespace

size_t TokenTable::slot_of(std::string_view text, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  // Texts are far away in memory, so they are looked at only where the hash is the same.
  while (slots_[slot].entry >= 0 &&
         (slots_[slot].hash != hash || text_of(entries_[static_cast<size_t>(slots_[slot].entry)]) != text))
    slot = (slot + 1) & mask;
  return slot;
}

void TokenTable::rehash(size_t slots) {
  std::vector<Slot> old(slots, Slot{0, -1});
  old.swap(slots_);
  for (const Slot& kept : old) {
    if (kept.entry < 0) continue;
    size_t slot = kept.hash & (slots - 1);
    while (slots_[slot].entry >= 0) slot = (slot + 1) & (slots - 1);
    slots_[slot] = kept;
  }
}

void TokenTable::reserve(size_t count) {
  entries_.reserve(count);
  entry_of_id_.reserve(count);
  rehash(std::bit_ceil(std::max<size_t>(16, count * 2)));
}

void TokenTable::add(std::string_view text, int32_t id) {
  SERVAL_CHECK(id >= 0 && id <= kMaxId);
  if (slots_.size() < (entries_.size() + 1) * 2)
    rehash(std::bit_ceil(std::max<size_t>(16, slots_.size() * 2)));
  SERVAL_CHECK(text.size() <= std::numeric_limits<uint32_t>::max());
  ++added_;
  const uint32_t hash = hash_of(text);
  Slot& slot = slots_[slot_of(text, hash)];
  if (slot.entry < 0) {
    slot = {hash, static_cast<int32_t>(entries_.size())};
    entries_.push_back({pool_.size(), static_cast<uint32_t>(text.size()), id});
    pool_ += text;
    longest_ = std::max(longest_, text.size());
  }
  Entry& entry = entries_[static_cast<size_t>(slot.entry)];
  entry.id = id;
  if (entry_of_id_.size() <= static_cast<size_t>(id)) entry_of_id_.resize(static_cast<size_t>(id) + 1, -1);
  entry_of_id_[static_cast<size_t>(id)] = slot.entry;
}

int32_t TokenTable::find(std::string_view text) const {
  if (slots_.empty()) return -1;
  const int32_t entry = slots_[slot_of(text, hash_of(text))].entry;
  return entry < 0 ? -1 : entries_[static_cast<size_t>(entry)].id;
}

// Each step asks for the memory of the next one for the whole block, so that the waits overlap.
void TokenTable::find_many(std::span<const std::string_view> texts, std::span<int32_t> ids) const {
  constexpr size_t kBlock = 32;
  const size_t mask = slots_.size() - 1;
  std::array<uint32_t, kBlock> hashes{};
  for (size_t first = 0; first < texts.size(); first += kBlock) {
    const size_t count = slots_.empty() ? 0 : std::min(kBlock, texts.size() - first);
    for (size_t i = 0; i < count; ++i) {
      hashes[i] = hash_of(texts[first + i]);
      __builtin_prefetch(&slots_[hashes[i] & mask]);
    }
    const auto likely_entry = [&](size_t i) { return slots_[hashes[i] & mask].entry; };
    for (size_t i = 0; i < count; ++i)
      if (likely_entry(i) >= 0) __builtin_prefetch(&entries_[static_cast<size_t>(likely_entry(i))]);
    for (size_t i = 0; i < count; ++i)
      if (likely_entry(i) >= 0)
        __builtin_prefetch(pool_.data() + entries_[static_cast<size_t>(likely_entry(i))].begin);
    for (size_t i = 0; i < count; ++i) {
      const int32_t entry = slots_[slot_of(texts[first + i], hashes[i])].entry;
      ids[first + i] = entry < 0 ? -1 : entries_[static_cast<size_t>(entry)].id;
    }
    if (slots_.empty()) std::fill(ids.begin(), ids.end(), -1);
  }
}

bool TokenTable::has_id(int32_t id) const {
  return id >= 0 && id < id_end() && entry_of_id_[static_cast<size_t>(id)] >= 0;
}

std::string_view TokenTable::text(int32_t id) const {
  if (!has_id(id)) return {};
  return text_of(entries_[static_cast<size_t>(entry_of_id_[static_cast<size_t>(id)])]);
}

}  // namespace serval
