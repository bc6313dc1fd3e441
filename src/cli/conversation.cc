#include "cli/conversation.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "formats/model_source.h"
#include "text/template_library.h"
#include "train/text_tools.h"

namespace serval {
namespace {

// Where a rendered prompt already begins with the BOS text, the tokenizer adds no second one.
std::vector<int32_t> stop_ids(const Pretrained& model, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = model.config().eos_token_ids;
  if (tokenizer.eos_id()) ids.push_back(*tokenizer.eos_id());
  for (const int32_t id : eos_ids_of(model.directory())) ids.push_back(id);
  // Chat models end a turn with a token of their own, which not every config.json names.
  for (const LibraryTemplate& known : library_templates())
    if (const auto id = tokenizer.token_to_id(known.end_of_turn); id && !known.end_of_turn.empty())
      ids.push_back(*id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// The text of an answer, as its tokens arrive, up to the first stop text.
class AnswerText {
 public:
  AnswerText(const Tokenizer& tokenizer, const std::vector<std::string>& stops)
      : stream_(tokenizer), stops_(stops) {
    for (const auto& stop : stops) longest_stop_ = std::max(longest_stop_, stop.size());
  }
  // False where a stop text has come: the answer is complete.
  bool push(int32_t id) {
    add(stream_.push(id));
    return !stopped_;
  }
  void finish() {
    if (!stopped_) add(stream_.finish());
    complete_ = true;
  }
  const std::string& text() const { return text_; }
  // Text that was not given before; what could be the beginning of a stop text is held back.
  std::string_view fresh() {
    const size_t held = stopped_ || complete_ ? 0 : longest_stop_;
    const size_t end = std::max(shown_, text_.size() > held ? text_.size() - held : 0);
    const std::string_view part = std::string_view(text_).substr(shown_, end - shown_);
    shown_ = end;
    return part;
  }

 private:
  void add(const std::string& more) {
    text_ += more;
    size_t at = std::string::npos;
    for (const auto& stop : stops_)
      if (!stop.empty()) at = std::min(at, text_.find(stop));
    if (at == std::string::npos) return;
    text_.resize(at);
    stopped_ = true;
  }

  DecodeStream stream_;
  const std::vector<std::string>& stops_;
  std::string text_;
  size_t longest_stop_ = 0, shown_ = 0;
  bool stopped_ = false, complete_ = false;
};

}  // namespace

Conversationalist::Conversationalist(const Settings& settings)
    : device_(make_device(settings.text("device"))),
      model_(Pretrained::open({.model = settings.text("model"),
                               .adapter = settings.text_or("adapter", ""),
                               .dtype = settings.text("dtype"),
                               .ignored_config_keys = settings.texts("ignore_config_key")})),
      check_nan_(settings.flag("check_nan")) {
  set_num_threads(static_cast<int>(settings.integer_or("num_threads", 0)));
  TextTools tools =
      open_text_tools({.tokenizer = tokenizer_path(settings.text_or("tokenizer_name_or_path", ""),
                                                   model_.directory(), settings.text_or("adapter", "")),
                       .chat_template = settings.text_or("chat_template", ""),
                       .adapter = settings.text_or("adapter", ""),
                       .with_fingerprint = false});
  tokenizer_ = std::move(tools.tokenizer);
  template_ = std::move(tools.chat_template);
  sampling_.temperature = settings.number("temperature");
  sampling_.top_k = settings.integer("top_k");
  sampling_.top_p = settings.number("top_p");
  sampling_.seed = static_cast<uint64_t>(settings.integer("seed"));
  sampling_.max_new_tokens = settings.integer("max_new_tokens");
  sampling_.stop_ids = stop_ids(model_, *tokenizer_);
  stop_texts_ = settings.texts("stop");
}

void Conversationalist::load(int64_t sequences, int64_t longest_prompt) {
  GeneratorOptions options;
  options.model = model_.config();
  options.network = model_.network_options();
  options.capacity = std::min(std::max(model_.config().max_position_embeddings, int64_t{16}),
                              longest_prompt + sampling_.max_new_tokens);
  options.sequences = sequences;
  generator_ = std::make_unique<Generator>(std::move(options), *device_);
  generator_->set_check_nan(check_nan_);
  model_.load_weights(generator_->parameters(), generator_->states());
  model_.load_adapter_weights(generator_->parameters(), generator_->states());
}

std::string Conversationalist::render(const Json& messages) const {
  if (!template_)
    fail(
        "the model has no chat template, so there is no conversation; use --raw to continue a text, name one "
        "with --chat-template, or add chat_template.jinja beside tokenizer.json");
  Json conversation = Json::object();
  conversation.set("messages", messages);
  return template_->render(conversation, {.add_generation_prompt = true}).text;
}

std::vector<int32_t> Conversationalist::encode(const std::string& prompt, bool add_special_tokens) const {
  return tokenizer_->encode(prompt, {.add_special_tokens = add_special_tokens}).ids;
}

std::string Conversationalist::answer(const std::string& prompt, bool add_special_tokens,
                                      const std::function<void(std::string_view)>& on_text) {
  AnswerText text(*tokenizer_, stop_texts_);
  const auto show = [&] {
    if (const std::string_view part = text.fresh(); !part.empty()) on_text(part);
  };
  generator_->generate(encode(prompt, add_special_tokens), sampling_, [&](int32_t id) {
    const bool more = text.push(id);
    show();
    return more;
  });
  text.finish();
  show();
  return text.text();
}

void Conversationalist::answer_all(std::span<const std::vector<int32_t>> prompts,
                                   const std::function<void(size_t, const std::string&)>& on_answer) {
  std::map<size_t, AnswerText> texts;  // of answers that are not complete
  const auto text_of = [&](size_t prompt) -> AnswerText& {
    return texts.try_emplace(prompt, *tokenizer_, stop_texts_).first->second;
  };
  generator_->generate_all(
      prompts, sampling_, [&](size_t prompt, int32_t id) { return text_of(prompt).push(id); },
      [&](size_t prompt, StopReason) {
        AnswerText& text = text_of(prompt);
        text.finish();
        on_answer(prompt, text.text());
        texts.erase(prompt);
      });
}

}  // namespace serval
