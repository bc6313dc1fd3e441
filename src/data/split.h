// The split syntax of Hugging Face's `datasets`: names of splits joined by '+', each with an optional slice
// in rows or percent.
//
//   for (const SplitPart& part : parse_split("train[:10%]+validation[-200:]", where))
//     use(part.name, part.rows_of(reader->size(), where));
//
// Percent boundaries are rounded to the nearest row, halves to the even one, as `datasets` does;
// "train[:10%](pct1_dropremainder)" takes whole hundredths.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace serval {

struct SplitPart {
  std::string name;  // "train"; "all" is every split
  struct Bound {
    int64_t value = 0;
    bool percent = false;
    friend bool operator==(const Bound&, const Bound&) = default;
  };
  std::optional<Bound> from, to;
  bool drop_remainder = false;

  // First row and the one behind the last, of `size` rows. A slice without rows is a UserError; one that
  // reaches outside is cut there.
  std::pair<int64_t, int64_t> rows_of(int64_t size, const std::string& where) const;
  bool whole() const { return !from && !to; }
  friend bool operator==(const SplitPart&, const SplitPart&) = default;
};

// "" is {"train"}.
std::vector<SplitPart> parse_split(std::string_view text, const std::string& where);

}  // namespace serval
