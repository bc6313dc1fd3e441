// Token strings and their ids, in both directions: one pool of bytes and an open-addressed hash table.
//
//   TokenTable tokens;
//   tokens.reserve(2);
//   tokens.add("a", 0);
//   tokens.find("a");      // 0, or -1
//   tokens.text(0);        // "a", or "" where there is no such id
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace serval {

class TokenTable {
 public:
  static constexpr int64_t kMaxId = (1 << 24) - 1;

  void reserve(size_t count);
  void add(std::string_view text, int32_t id);  // 0 <= id <= kMaxId; a token added twice keeps the last id
  int32_t find(std::string_view text) const;
  // find() of each, quicker than one by one.
  void find_many(std::span<const std::string_view> texts, std::span<int32_t> ids) const;
  std::string_view text(int32_t id) const;
  bool has_id(int32_t id) const;
  int64_t size() const { return added_; }                                       // tokens that were added
  int64_t id_end() const { return static_cast<int64_t>(entry_of_id_.size()); }  // largest id + 1
  size_t longest() const { return longest_; }                                   // bytes

 private:
  struct Entry {
    size_t begin;
    uint32_t size;
    int32_t id;
  };
  struct Slot {
    uint32_t hash;
    int32_t entry;  // index of an entry, or -1
  };
  size_t slot_of(std::string_view text, uint32_t hash) const;
  std::string_view text_of(const Entry& entry) const {
    return std::string_view(pool_).substr(entry.begin, entry.size);
  }
  void rehash(size_t slots);

  std::string pool_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  std::vector<int32_t> entry_of_id_;  // or -1
  size_t longest_ = 0;
  int64_t added_ = 0;
};

}  // namespace serval
