#include "text/tokenizer/pieces.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "text/tokenizer/characters.h"

namespace serval {

void Pieces::reset(std::string_view input) {
  if (input.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()) / 8)
    fail("a text of {} bytes is too long to tokenize at once; split it", input.size());
  input_ = input;
  list_.clear();
  buffers_.clear();
  if (!input.empty()) list_.push_back(Piece{.text = input});
}

InputSpan Pieces::span_of_byte(const Piece& piece, size_t at) const {
  return span(piece, at, at + 1);
}

InputSpan Pieces::span(const Piece& piece, size_t begin, size_t end) const {
  end = std::min(end, piece.text.size());
  if (begin >= end) return {piece.origin, piece.origin};
  if (piece.spans != nullptr) return {piece.spans[begin].begin, piece.spans[end - 1].end};
  // A token may hold a part of a character; its span is the whole character.
  const size_t offset = static_cast<size_t>(piece.text.data() - input_.data());
  size_t from = offset + begin, to = offset + end;
  while (from > 0 && is_continuation(input_[from])) --from;
  while (to < input_.size() && is_continuation(input_[to])) ++to;
  return {static_cast<int32_t>(from), static_cast<int32_t>(to)};
}

Piece Pieces::slice(const Piece& piece, size_t begin, size_t end) const {
  Piece part = piece;
  part.text = piece.text.substr(begin, end - begin);
  if (part.text.empty()) return part;
  if (piece.spans != nullptr) {
    part.spans = piece.spans + begin;
    part.origin = part.spans->begin;
  } else {
    part.origin = static_cast<int32_t>(part.text.data() - input_.data());
  }
  return part;
}

void Pieces::split(const Piece& piece, std::vector<Stretch>& stretches, SplitBehavior behavior,
                   std::vector<Piece>& out) const {
  const auto emit = [&](size_t begin, size_t end) {
    if (begin < end) out.push_back(slice(piece, begin, end));
  };
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Stretch& s : stretches)
        if (!s.is_match) emit(s.begin, s.end);
      return;
    case SplitBehavior::kIsolated:
      for (const Stretch& s : stretches) emit(s.begin, s.end);
      return;
    default:
      break;
  }
  // The others join a stretch to a neighbour.
  const bool backwards = behavior == SplitBehavior::kMergedWithNext;
  if (backwards) std::reverse(stretches.begin(), stretches.end());
  std::vector<Stretch> joined;
  bool previous_match = false;
  for (const Stretch& s : stretches) {
    const bool join =
        behavior == SplitBehavior::kContiguous ? s.is_match == previous_match : s.is_match && !previous_match;
    previous_match = s.is_match;
    if (!join || joined.empty()) {
      joined.push_back(s);
    } else if (backwards) {
      joined.back().begin = s.begin;
    } else {
      joined.back().end = s.end;
    }
  }
  if (backwards) std::reverse(joined.begin(), joined.end());
  for (const Stretch& s : joined) emit(s.begin, s.end);
}

// The spans of the bytes that a new text takes over.
void Pieces::append_spans(Buffer& buffer, const Piece& piece, size_t begin, size_t end) const {
  if (piece.spans != nullptr) {
    buffer.spans.insert(buffer.spans.end(), piece.spans + begin, piece.spans + end);
    return;
  }
  const auto offset = static_cast<int32_t>(piece.text.data() - input_.data());
  const size_t first = buffer.spans.size();
  buffer.spans.resize(first + (end - begin));
  InputSpan* span = buffer.spans.data() + first;
  for (size_t at = begin; at < end;) {
    if (static_cast<unsigned char>(piece.text[at]) < 0x80) {
      const auto here = offset + static_cast<int32_t>(at++);
      *span++ = {here, here + 1};
      continue;
    }
    const InputSpan whole = span_of_byte(piece, at);
    const auto next = std::min(end, static_cast<size_t>(whole.end - offset));
    for (; at < next; ++at) *span++ = whole;
  }
}

// A hostile tokenizer could replace every character by a page, again and again.
void Pieces::check_size(size_t size) const {
  if (size > input_.size() * 64 + (size_t{1} << 20))
    fail("the tokenizer's normalizers make {} bytes of a text of {}", size, input_.size());
}

Piece Pieces::adopt(const Piece& old, Buffer buffer) {
  check_size(buffer.text.size());
  buffers_.push_back(std::make_unique<const Buffer>(std::move(buffer)));
  Piece piece = old;
  piece.text = buffers_.back()->text;
  piece.spans = buffers_.back()->spans.data();
  return piece;
}

Piece Pieces::changed(const Piece& piece, const std::vector<ChangedCharacter>& characters, size_t removed) {
  Buffer buffer;
  buffer.text.reserve(piece.text.size());
  buffer.spans.reserve(piece.text.size());
  size_t at = 0;  // in the old text
  for (; removed > 0 && at < piece.text.size(); --removed) next_character(piece.text, at);
  for (const auto& [character, change] : characters) {
    InputSpan span = {piece.origin, piece.origin};
    if (change > 0) {
      if (at > 0) span = span_of_byte(piece, at - 1);
    } else if (at < piece.text.size()) {
      span = span_of_byte(piece, at);
      for (int32_t i = 0; i <= -change && at < piece.text.size(); ++i) next_character(piece.text, at);
    }
    append_utf8(buffer.text, character);
    buffer.spans.resize(buffer.text.size(), span);
  }
  return adopt(piece, std::move(buffer));
}

Piece Pieces::prepended(const Piece& piece, std::string_view prefix) {
  if (piece.text.empty() || prefix.empty()) return piece;
  check_size(prefix.size() + piece.text.size());
  Buffer buffer;
  buffer.text.reserve(prefix.size() + piece.text.size());
  buffer.text += prefix;
  buffer.text += piece.text;
  buffer.spans.reserve(buffer.text.size());
  buffer.spans.resize(prefix.size(), span_of_byte(piece, 0));
  append_spans(buffer, piece, 0, piece.text.size());
  return adopt(piece, std::move(buffer));
}

Piece Pieces::replaced(const Piece& piece, const std::vector<Stretch>& stretches, std::string_view content) {
  if (std::none_of(stretches.begin(), stretches.end(), [](const Stretch& s) { return s.is_match; }))
    return piece;
  size_t size = 0;
  for (const Stretch& s : stretches) size += s.is_match ? content.size() : s.end - s.begin;
  check_size(size);
  Buffer buffer;
  buffer.text.reserve(size);
  buffer.spans.reserve(buffer.text.capacity());
  for (const Stretch& s : stretches) {
    if (!s.is_match) {
      buffer.text += piece.text.substr(s.begin, s.end - s.begin);
      append_spans(buffer, piece, s.begin, s.end);
    } else {
      buffer.text += content;
      const InputSpan span =
          s.end == 0 ? InputSpan{piece.origin, piece.origin} : span_of_byte(piece, s.end - 1);
      buffer.spans.resize(buffer.text.size(), span);
    }
  }
  return adopt(piece, std::move(buffer));
}

Piece Pieces::spelled_in_byte_characters(const Piece& piece) {
  if (!piece.byte_level) return piece;
  Buffer buffer;
  for (size_t at = 0; at < piece.text.size(); ++at) {
    buffer.text += byte_character(static_cast<unsigned char>(piece.text[at]));
    buffer.spans.resize(buffer.text.size(), span_of_byte(piece, at));
  }
  Piece spelled = adopt(piece, std::move(buffer));
  spelled.byte_level = false;
  return spelled;
}

}  // namespace serval
