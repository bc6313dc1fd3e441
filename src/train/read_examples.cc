#include "train/read_examples.h"

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "data/dataset.h"
#include "data/row_shape.h"

namespace serval {

Examples read_examples(const std::vector<std::string>& paths, const DatasetReadOptions& options,
                       const Tokenizer& tokenizer, const ChatTemplate* chat_template, int64_t vocab_size,
                       const std::string& what) {
  Examples all;
  for (const std::string& path : paths) {
    const auto rows = open_dataset(path);
    ShapeOptions shape_options;
    shape_options.has_chat_template = chat_template != nullptr;
    if (!options.text_field.empty()) shape_options.text_field = options.text_field;
    const DatasetShape shape = detect_shape(*rows, shape_options);
    log_info("{} {}: {}", what, path, shape.explanation);
    if (shape.chat && chat_template == nullptr)
      fail(
          "{}: the rows are conversations but the tokenizer has no chat template; add chat_template.jinja "
          "beside "
          "tokenizer.json, or use prompt/completion or text rows",
          path);
    const TokenizedData data = tokenize_dataset(*rows, shape, tokenizer, chat_template, options.examples);
    for (const auto& note : data.notes) warn("{}", note);
    log_info("{} {}: {}", what, path, data.statistics.text());
    all.append(data.examples);
  }
  if (all.num_labels() == 0) fail("{}: no token is trained; look at --preview 3", join(paths, ", "));
  for (int64_t i = 0; i < all.size(); ++i)
    for (const int32_t id : all.ids(i))
      if (id < 0 || id >= vocab_size)
        fail(
            "the tokenizer gives the id {}, but the model's vocabulary has {} entries; they do not belong "
            "together",
            id, vocab_size);
  return all;
}

}  // namespace serval
