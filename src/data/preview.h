// What the model will be trained on, for the user's eyes: the text of the first examples with the trained
// tokens in colour, or in [[double brackets]] where there is no colour.
//
//   log_line(preview_examples(data.examples, tokenizer, 3, use_colour()));
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "data/examples.h"
#include "data/row.h"
#include "text/tokenizer.h"

namespace serval {

// The documents of the first `count` rows.
std::string preview_examples(const Examples& examples, const Tokenizer& tokenizer, int64_t count, bool colour,
                             RowKind kind = RowKind::text);

// One example's tokens with their ids, "5:'user' [[42:'yes']]", wrapped at about 100 characters.
std::string preview_ids(const Examples& examples, int64_t example, const Tokenizer& tokenizer, bool colour);
// A whole page: each token is marked where it is trained, with its id below it.
std::string preview_html(const Examples& examples, const Tokenizer& tokenizer, int64_t count,
                         const std::string& title);

struct PreviewPiece {
  std::string text;
  bool trained = false;
};

// Neighbours of one kind are joined. Control characters are shown as \x1b, so that no dataset drives a
// terminal.
std::string preview_text(std::span<const PreviewPiece> pieces, bool colour);

}  // namespace serval
