// The text on its way through a tokenizer: a list of pieces, each of which knows for every byte which bytes
// of the input it came from. Normalizers change a piece, pre-tokenizers split pieces, the model turns each
// into tokens.
//
//   Pieces pieces("Hello world");
//   pieces.split_each([&](const Piece& piece, std::vector<Piece>& out) { out.push_back(pieces.slice(piece, 0,
//   5)); });
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace serval {

// Bytes of the input. 32 bits: the text of one call is below 2 GiB.
struct InputSpan {
  int32_t begin = 0, end = 0;
};

struct Piece {
  std::string_view text;
  const InputSpan* spans = nullptr;  // for each byte of text; nullptr: text is a part of the input itself
  int32_t origin = 0;                // where its text started in the input when it was cut out
  int32_t token = -1;                // an added token: its id; nothing changes or splits it any more
  bool byte_level = false;           // each byte stands for its GPT-2 character (see byte_character)
};

// One character of a transformed text: `change` 0 replaces the next old character, 1 is new beside the one
// before, -n replaces one and swallows the n after it.
struct ChangedCharacter {
  char32_t character;
  int32_t change;
};

// One stretch of a text, matched or not; a list of them covers the text.
struct Stretch {
  size_t begin, end;
  bool is_match;
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

class Pieces {
 public:
  Pieces() = default;
  explicit Pieces(std::string_view input) { reset(input); }
  void reset(std::string_view input);  // as a new one, in the same memory
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;
  Pieces(Pieces&&) = default;
  Pieces& operator=(Pieces&&) = default;
  std::string_view input() const { return input_; }
  const std::vector<Piece>& list() const { return list_; }

  // Each piece that is no added token is replaced by what `split` appends for it; empty pieces are dropped.
  template <class Split>  // void(const Piece& piece, std::vector<Piece>& out)
  void split_each(const Split& split) {
    next_.clear();
    for (const Piece& piece : list_) {
      if (piece.token >= 0) {
        next_.push_back(piece);
        continue;
      }
      const size_t first = next_.size();
      split(piece, next_);
      next_.erase(std::remove_if(next_.begin() + static_cast<ptrdiff_t>(first), next_.end(),
                                 [](const Piece& part) { return part.text.empty(); }),
                  next_.end());
    }
    list_.swap(next_);
  }

  Piece slice(const Piece& piece, size_t begin, size_t end) const;
  InputSpan span(const Piece& piece, size_t begin, size_t end) const;
  // Appends the parts that the behaviour makes of the stretches.
  void split(const Piece& piece, std::vector<Stretch>& stretches, SplitBehavior behavior,
             std::vector<Piece>& out) const;

  // New texts of a piece. They live as long as the Pieces.
  // The first `removed` characters of the old text are dropped before the changes begin.
  Piece changed(const Piece& piece, const std::vector<ChangedCharacter>& characters, size_t removed = 0);
  Piece prepended(const Piece& piece, std::string_view prefix);
  Piece replaced(const Piece& piece, const std::vector<Stretch>& stretches, std::string_view content);
  Piece spelled_in_byte_characters(const Piece& piece);  // byte_level becomes text

 private:
  struct Buffer {
    std::string text;
    std::vector<InputSpan> spans;
  };
  void append_spans(Buffer& buffer, const Piece& piece, size_t begin, size_t end) const;
  InputSpan span_of_byte(const Piece& piece, size_t at) const;
  void check_size(size_t size) const;
  Piece adopt(const Piece& old, Buffer buffer);

  std::string_view input_;
  std::vector<Piece> list_, next_;
  std::vector<std::unique_ptr<const Buffer>> buffers_;
};

}  // namespace serval
