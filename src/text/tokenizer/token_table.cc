#include "text/tokenizer/token_table.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/error.h"

namespace serval {

size_t TokenTable::slot_of(std::string_view text) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>{}(text)&mask;
  while (slots_[slot] >= 0 && text_of(entries_[static_cast<size_t>(slots_[slot])]) != text)
    slot = (slot + 1) & mask;
  return slot;
}

void TokenTable::rehash(size_t slots) {
  slots_.assign(slots, -1);
  for (size_t i = 0; i < entries_.size(); ++i)
    slots_[slot_of(text_of(entries_[i]))] = static_cast<int32_t>(i);
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
  const size_t slot = slot_of(text);
  if (slots_[slot] < 0) {
    slots_[slot] = static_cast<int32_t>(entries_.size());
    entries_.push_back({pool_.size(), text.size(), id});
    pool_ += text;
    longest_ = std::max(longest_, text.size());
  }
  Entry& entry = entries_[static_cast<size_t>(slots_[slot])];
  entry.id = id;
  if (entry_of_id_.size() <= static_cast<size_t>(id)) entry_of_id_.resize(static_cast<size_t>(id) + 1, -1);
  entry_of_id_[static_cast<size_t>(id)] = slots_[slot];
}

int32_t TokenTable::find(std::string_view text) const {
  if (slots_.empty()) return -1;
  const int32_t entry = slots_[slot_of(text)];
  return entry < 0 ? -1 : entries_[static_cast<size_t>(entry)].id;
}

bool TokenTable::has_id(int32_t id) const {
  return id >= 0 && id < id_end() && entry_of_id_[static_cast<size_t>(id)] >= 0;
}

std::string_view TokenTable::text(int32_t id) const {
  if (!has_id(id)) return {};
  return text_of(entries_[static_cast<size_t>(entry_of_id_[static_cast<size_t>(id)])]);
}

}  // namespace serval
