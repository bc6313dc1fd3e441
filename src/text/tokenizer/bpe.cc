#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "base/error.h"
#include "base/text.h"
#include "text/tokenizer/characters.h"

namespace serval {
namespace {

constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
// Below this many symbols, looking through all of them beats a queue.
constexpr size_t kFewSymbols = 32;
// A longer piece is taken in windows of this many bytes, or so many times the longest token.
constexpr size_t kWindowBytes = 8192;
constexpr size_t kWindowTokens = 16;

uint64_t pair_key(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

size_t pair_slot(uint64_t pair, size_t mask) {
  return static_cast<size_t>((pair * 0x9E3779B97F4A7C15u) >> 20) & mask;
}

// What stands for a blank where text is not cut into words before: U+2581.
constexpr std::string_view kMark = "\xE2\x96\x81";

// The start of the next run of marks behind `at`, or the end.
size_t next_mark(std::string_view text, size_t at) {
  for (at = text.find(kMark, at); at != std::string_view::npos; at = text.find(kMark, at + kMark.size()))
    if (at >= 1 && (at < kMark.size() || text.substr(at - kMark.size(), kMark.size()) != kMark)) return at;
  return text.size();
}

struct Candidate {
  int32_t rank, id;
  int32_t position;
  // The standard heap has its largest element on top: the lowest rank, then the leftmost.
  friend bool operator<(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  }
};

}  // namespace

struct BpeModel::Symbol {
  int32_t id;
  uint32_t size;            // bytes of the piece; 0: merged into the symbol before
  int32_t previous, next;   // merge_many: neighbours, -1 at the ends
  int32_t rank, merged_id;  // merge_few: the merge with the next symbol
};

struct BpeModel::Scratch {
  std::vector<Symbol> symbols, pair;
  std::vector<Candidate> heap;
  std::string spelled;
};

BpeModel::Scratch& BpeModel::scratch() {
  thread_local Scratch scratch;
  return scratch;
}

BpeModel::BpeModel(TokenTable vocabulary, BpeOptions options, std::string where)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)), where_(std::move(where)) {
  constexpr char kHex[] = "0123456789ABCDEF";
  reads_bytes_ = options_.continuing_subword_prefix.empty() && options_.end_of_word_suffix.empty();
  const bool reads_whole_words = reads_bytes_ && !options_.ignore_merges;
  for (unsigned byte = 0; byte < 256; ++byte) {
    id_of_byte_.push_back(vocabulary_.find(byte_character(static_cast<unsigned char>(byte))));
    reads_bytes_ = reads_bytes_ && id_of_byte_.back() >= 0;
    const char character = static_cast<char>(byte);
    if (byte < 0x80) id_of_ascii_.push_back(vocabulary_.find(std::string_view(&character, 1)));
    const char name[] = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
    fallback_id_.push_back(vocabulary_.find(std::string_view(name, sizeof name)));
  }
  // A character that is dropped moves the spans of all that follow in its piece.
  const bool drops_characters =
      options_.unk_token.empty() &&
      !(options_.byte_fallback && std::count(fallback_id_.begin(), fallback_id_.end(), -1) == 0);
  cuts_at_marks_ = reads_whole_words && !drops_characters && vocabulary_.find(kMark) >= 0;
  whole_ = std::make_unique<std::atomic<Whole>[]>(static_cast<size_t>(vocabulary_.id_end()));
  reserve_merges(0);
}

void BpeModel::reserve_merges(size_t count) {
  std::vector<Merge> old = std::move(merges_);
  merges_.assign(std::bit_ceil(std::max<size_t>(16, count + count / 2)), Merge{kNoPair, 0, 0});
  merge_count_ = 0;
  for (const Merge& merge : old)
    if (merge.pair != kNoPair) put_merge(merge.pair, merge.rank, merge.id);
}

void BpeModel::put_merge(uint64_t pair, int32_t rank, int32_t id) {
  if (merges_.size() * 2 < (merge_count_ + 1) * 3) reserve_merges(merges_.size());
  const size_t mask = merges_.size() - 1;
  size_t slot = pair_slot(pair, mask);
  while (merges_[slot].pair != kNoPair && merges_[slot].pair != pair) slot = (slot + 1) & mask;
  merge_count_ += merges_[slot].pair == kNoPair;
  merges_[slot] = {pair, rank, id};
}

const BpeModel::Merge* BpeModel::find_merge(int32_t left, int32_t right) const {
  const uint64_t pair = pair_key(left, right);
  const size_t mask = merges_.size() - 1;
  for (size_t slot = pair_slot(pair, mask); merges_[slot].pair != kNoPair; slot = (slot + 1) & mask)
    if (merges_[slot].pair == pair) return &merges_[slot];
  return nullptr;
}

void BpeModel::add_merge(std::string_view left, std::string_view right, int64_t rank) {
  const auto known = [&](std::string_view token) {
    const int32_t id = vocabulary_.find(token);
    if (id < 0) fail("{}: model.merges[{}]: the token '{}' is not in the vocabulary", where_, rank, token);
    return id;
  };
  if (rank >= kNoRank) fail("{}: model.merges: too many merges", where_);
  const int32_t left_id = known(left), right_id = known(right);
  const std::string_view prefix = options_.continuing_subword_prefix;
  std::string& merged = scratch().spelled;
  merged = left;
  merged += right.substr(std::min(prefix.size(), right.size()));
  add_merge(left_id, right_id, known(merged), rank);
}

void BpeModel::add_merge(int32_t left, int32_t right, int32_t merged, int64_t rank) {
  if (rank >= kNoRank) fail("{}: model.merges: too many merges", where_);
  put_merge(pair_key(left, right), static_cast<int32_t>(rank), merged);
  check_marks(merged);
}

void BpeModel::add_merge(std::string_view line, int64_t rank) {
  const size_t first = line.find(' ');
  if (first == std::string_view::npos)
    fail("{}: model.merges[{}]: expected two tokens with a space between, found '{}'", where_, rank, line);
  if (line.find(' ', first + 1) == std::string_view::npos)
    return add_merge(line.substr(0, first), line.substr(first + 1), rank);
  std::string merged;
  for (size_t space = first; space != std::string_view::npos; space = line.find(' ', space + 1)) {
    const std::string_view left = line.substr(0, space), right = line.substr(space + 1);
    if (left.empty() || right.empty() || vocabulary_.find(left) < 0 || vocabulary_.find(right) < 0) continue;
    merged = left;
    merged += right;
    if (vocabulary_.find(merged) >= 0) return add_merge(left, right, rank);
  }
  fail("{}: model.merges[{}]: '{}' cannot be read as two tokens of the vocabulary", where_, rank, line);
}

void BpeModel::add_merges(std::span<const std::pair<std::string_view, std::string_view>> merges,
                          int64_t first_rank) {
  constexpr size_t kBlock = 32;
  std::array<std::string_view, 2 * kBlock> texts;
  std::array<int32_t, 2 * kBlock> ids{};
  std::array<int32_t, kBlock> merged_ids{};
  std::string& spelled = scratch().spelled;
  const size_t prefix = options_.continuing_subword_prefix.size();
  int32_t likely = -1;
  for (size_t first = 0; first < merges.size(); first += kBlock) {
    const size_t count = std::min(kBlock, merges.size() - first);
    for (size_t i = 0; i < count; ++i) {
      texts[2 * i] = merges[first + i].first;
      texts[2 * i + 1] = merges[first + i].second;
    }
    vocabulary_.find_many(std::span(texts).first(2 * count), ids);
    for (size_t i = 0; i < count; ++i)
      __builtin_prefetch(&merges_[pair_slot(pair_key(ids[2 * i], ids[2 * i + 1]), merges_.size() - 1)]);
    for (size_t i = 0; i < count; ++i) {
      const std::string_view left = texts[2 * i];
      const std::string_view right = texts[2 * i + 1].substr(std::min(prefix, texts[2 * i + 1].size()));
      const auto is_merged = [&](int32_t id) {
        const std::string_view text = vocabulary_.text(id);
        return text.size() == left.size() + right.size() && starts_with(text, left) && ends_with(text, right);
      };
      // Most files list merges in the order of the tokens that they make.
      if (is_merged(likely + 1)) {
        ++likely;
      } else if (!is_merged(likely)) {
        spelled = left;
        spelled += right;
        likely = vocabulary_.find(spelled);
      }
      merged_ids[i] = likely;
    }
    for (size_t i = 0; i < count; ++i) {
      const auto rank = first_rank + static_cast<int64_t>(first + i);
      const auto& [left, right] = merges[first + i];
      if (right.data() == nullptr) {
        add_merge(left, rank);
      } else if (ids[2 * i] < 0 || ids[2 * i + 1] < 0 || merged_ids[i] < 0 || rank >= kNoRank) {
        add_merge(left, right, rank);  // tells what is wrong
      } else {
        put_merge(pair_key(ids[2 * i], ids[2 * i + 1]), static_cast<int32_t>(rank), merged_ids[i]);
        check_marks(merged_ids[i]);
      }
    }
  }
}

// Where a token goes across the start of a run of marks, text cannot be cut there.
void BpeModel::check_marks(int32_t merged) {
  if (!cuts_at_marks_) return;
  const std::string_view text = vocabulary_.text(merged);
  cuts_at_marks_ = next_mark(text, 0) == text.size();
}

int32_t BpeModel::unknown_id() const {
  const int32_t id = vocabulary_.find(options_.unk_token);
  if (id < 0) fail("{}: model.unk_token: '{}' is not in the vocabulary", where_, options_.unk_token);
  return id;
}

void BpeModel::split_into_symbols(std::string_view piece, bool byte_level,
                                  std::vector<Symbol>& symbols) const {
  symbols.clear();
  const auto add = [&](int32_t id, size_t size) {
    symbols.push_back({id, static_cast<uint32_t>(size), -1, -1, kNoRank, -1});
  };
  if (byte_level) {
    for (const char byte : piece) add(id_of_byte_[static_cast<unsigned char>(byte)], 1);
    return;
  }
  std::string spelled;
  size_t unknown_size = 0;  // bytes of the unknown token that is being put together
  int32_t unknown = -1;
  const auto end_unknown = [&] {
    if (unknown_size > 0) add(unknown, unknown_size);
    unknown_size = 0;
  };
  for (size_t at = 0; at < piece.size();) {
    const size_t begin = at;
    next_character(piece, at);
    std::string_view character = piece.substr(begin, at - begin);
    const size_t size = character.size();
    const bool prefixed = begin > 0 && !options_.continuing_subword_prefix.empty();
    const bool suffixed = at == piece.size() && !options_.end_of_word_suffix.empty();
    if (prefixed || suffixed) {
      spelled = prefixed ? options_.continuing_subword_prefix : "";
      spelled += character;
      if (suffixed) spelled += options_.end_of_word_suffix;
      character = spelled;
    }
    const bool is_ascii = size == 1 && character.size() == 1;
    const int32_t id =
        is_ascii ? id_of_ascii_[static_cast<unsigned char>(character[0])] : vocabulary_.find(character);
    if (id >= 0) {
      end_unknown();
      add(id, size);
      continue;
    }
    const bool falls_back =
        options_.byte_fallback && std::all_of(character.begin(), character.end(), [&](char byte) {
          return fallback_id_[static_cast<unsigned char>(byte)] >= 0;
        });
    if (falls_back) {
      for (const char byte : character) add(fallback_id_[static_cast<unsigned char>(byte)], 1);
    } else if (!options_.unk_token.empty()) {
      if (!options_.fuse_unk) end_unknown();
      unknown = unknown_id();
      unknown_size += size;
    }
  }
  end_unknown();
}

// Takes the lowest rank, leftmost first, until no merge is left.
void BpeModel::merge_few(std::vector<Symbol>& symbols) const {
  const auto rank_pair = [&](size_t i) {
    const Merge* merge = i + 1 < symbols.size() ? find_merge(symbols[i].id, symbols[i + 1].id) : nullptr;
    symbols[i].rank = merge == nullptr ? kNoRank : merge->rank;
    symbols[i].merged_id = merge == nullptr ? -1 : merge->id;
  };
  for (size_t i = 0; i < symbols.size(); ++i) rank_pair(i);
  while (symbols.size() > 1) {
    size_t best = 0;
    for (size_t i = 1; i < symbols.size(); ++i)
      if (symbols[i].rank < symbols[best].rank) best = i;
    if (symbols[best].rank == kNoRank) return;
    symbols[best].id = symbols[best].merged_id;
    symbols[best].size += symbols[best + 1].size;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    rank_pair(best);
    if (best > 0) rank_pair(best - 1);
  }
}

// The same through a queue: n log n.
void BpeModel::merge_many(std::vector<Symbol>& symbols) const {
  std::vector<Candidate>& heap = scratch().heap;
  heap.clear();
  const auto at = [&](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    at(i).previous = i - 1;
    at(i).next = i + 1 < count ? i + 1 : -1;
    if (i + 1 == count) break;
    if (const Merge* merge = find_merge(at(i).id, at(i + 1).id)) heap.push_back({merge->rank, merge->id, i});
  }
  std::make_heap(heap.begin(), heap.end());
  const auto consider = [&](int32_t left) {
    if (const Merge* merge = find_merge(at(left).id, at(at(left).next).id)) {
      heap.push_back({merge->rank, merge->id, left});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    Symbol& left = at(top.position);
    if (left.size == 0 || left.next < 0) continue;
    Symbol& right = at(left.next);
    // An entry from before one of the two was merged elsewhere is stale.
    const Merge* merge = find_merge(left.id, right.id);
    if (merge == nullptr || merge->id != top.id) continue;
    left.id = top.id;
    left.size += right.size;
    left.next = right.next;
    right.size = 0;
    if (left.next >= 0) {
      at(left.next).previous = top.position;
      consider(top.position);
    }
    if (left.previous >= 0) consider(left.previous);
  }
  symbols.erase(std::remove_if(symbols.begin(), symbols.end(), [](const Symbol& s) { return s.size == 0; }),
                symbols.end());
}

size_t BpeModel::next_cut(std::string_view piece, size_t at) const {
  return cuts_at_marks_ ? next_mark(piece, at + 1) : piece.size();
}

void BpeModel::merge_text(std::string_view text, bool byte_level, std::vector<Symbol>& symbols) const {
  split_into_symbols(text, byte_level, symbols);
  if (symbols.size() <= kFewSymbols) {
    merge_few(symbols);
  } else {
    merge_many(symbols);
  }
}

// Whether two neighbouring tokens are what their text alone becomes.
bool BpeModel::stay_apart(std::string_view text, bool byte_level, const ModelToken& left,
                          const Symbol& right) const {
  std::vector<Symbol>& pair = scratch().pair;
  merge_text(text, byte_level, pair);
  return pair.size() == 2 && pair[0].id == left.id && pair[0].size == left.end - left.begin &&
         pair[1].id == right.id && pair[1].size == right.size;
}

// Linear in the piece: merges are found window by window. What makes that exact: a row of tokens is what the
// whole text becomes if every two neighbours are what their own text becomes. For the first merge across a
// border between tokens of the row would look at nothing but the two tokens beside it, and be made for their
// text alone too. Inside a window neighbours stay apart, since the window's own merges did not join them; so
// only the pair at the border of two windows is looked at. Where it would be joined, the window before is
// taken again, twice as long. False: characters are dropped, so that tokens do not tell where their text is.
bool BpeModel::tokenize_in_windows(std::string_view piece, bool byte_level,
                                   std::vector<ModelToken>& out) const {
  struct Window {
    size_t begin, first_token;
  };
  std::vector<Window> done;
  std::vector<Symbol>& symbols = scratch().symbols;
  const size_t first_token = out.size();
  const size_t window = std::max(kWindowBytes, kWindowTokens * vocabulary_.longest());
  const size_t margin = window / kWindowTokens;  // of bytes whose tokens the end of the window may change
  const auto at_character = [&](size_t at) {
    return byte_level || at == piece.size() || !is_continuation(piece[at]);
  };
  size_t begin = 0, times = 1, failed_at = 0;
  while (true) {
    size_t end = std::min(piece.size(), begin + window * times);
    while (!at_character(end)) ++end;
    merge_text(piece.substr(begin, end - begin), byte_level, symbols);
    size_t covered = 0;
    for (const Symbol& symbol : symbols) covered += symbol.size;
    if (covered != end - begin) {
      out.resize(first_token);
      return false;
    }
    if (begin > 0) {
      const ModelToken& left = out.back();
      const std::string_view both = piece.substr(left.begin, begin + symbols[0].size - left.begin);
      if (!stay_apart(both, byte_level, left, symbols[0])) {
        failed_at = std::max(failed_at, begin);
        begin = done.back().begin;
        out.resize(done.back().first_token);
        done.pop_back();
        times *= 2;
        continue;
      }
      if (begin > failed_at) times = 1;
    }
    done.push_back({begin, out.size()});
    size_t at = begin, kept = begin, kept_tokens = out.size();
    for (const Symbol& symbol : symbols) {
      if (end < piece.size() && at + symbol.size + margin > end) break;
      out.push_back({symbol.id, static_cast<uint32_t>(at), static_cast<uint32_t>(at + symbol.size)});
      at += symbol.size;
      if (!at_character(at)) continue;
      kept = at;
      kept_tokens = out.size();
    }
    out.resize(kept_tokens);
    if (kept == piece.size()) return true;
    if (kept == begin) {
      done.pop_back();
      times *= 2;
    }
    begin = kept;
  }
}

void BpeModel::tokenize(std::string_view piece, bool byte_level, std::vector<ModelToken>& out) const {
  Scratch& work = scratch();
  std::atomic<Whole>* whole = nullptr;
  int32_t whole_id = -1;
  if (piece.size() <= vocabulary_.longest()) {
    std::string_view spelled = piece;
    if (byte_level) {
      work.spelled.clear();
      for (const char byte : piece) work.spelled += byte_character(static_cast<unsigned char>(byte));
      spelled = work.spelled;
    }
    whole_id = vocabulary_.find(spelled);
    if (whole_id >= 0) whole = &whole_[static_cast<size_t>(whole_id)];
  }
  if (whole != nullptr && (options_.ignore_merges || whole->load(std::memory_order_relaxed) == Whole::kYes)) {
    out.push_back({whole_id, 0, static_cast<uint32_t>(piece.size())});
    return;
  }
  const bool is_long = piece.size() > 2 * std::max(kWindowBytes, kWindowTokens * vocabulary_.longest());
  if (is_long && options_.continuing_subword_prefix.empty() && options_.end_of_word_suffix.empty() &&
      tokenize_in_windows(piece, byte_level, out))
    return;
  std::vector<Symbol>& symbols = work.symbols;
  merge_text(piece, byte_level, symbols);
  if (whole != nullptr && whole->load(std::memory_order_relaxed) == Whole::kUnknown) {
    const bool is_whole = symbols.size() == 1 && symbols[0].id == whole_id && symbols[0].size == piece.size();
    whole->store(is_whole ? Whole::kYes : Whole::kNo, std::memory_order_relaxed);
  }
  uint32_t at = 0;
  for (const Symbol& symbol : symbols) {
    out.push_back({symbol.id, at, at + symbol.size});
    at += symbol.size;
  }
}

}  // namespace serval
