#include "cli/conversation.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"

namespace serval {
namespace {

// Where a rendered prompt already begins with the BOS text, the tokenizer adds no second one.
std::vector<int32_t> stop_ids(const Pretrained& model, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = model.config().eos_token_ids;
  if (tokenizer.eos_id()) ids.push_back(*tokenizer.eos_id());
  const std::string path = join_path(model.directory(), "generation_config.json");
  if (file_exists(path)) {
    const Json config = Json::parse(read_file(path, 1 << 20), path);
    if (const Json* eos = config.find("eos_token_id")) {
      if (eos->is_int()) ids.push_back(static_cast<int32_t>(eos->as_int()));
      if (eos->is_array())
        for (const Json& id : eos->as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
    }
  }
  // Chat models end a turn with a token of their own, which not every config.json names.
  for (const char* token : {"<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>"})
    if (const auto id = tokenizer.token_to_id(token)) ids.push_back(*id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace

Conversationalist::Conversationalist(const Settings& settings) : device_(make_device(settings.text("device"))) {
  set_num_threads(static_cast<int>(settings.integer_or("num_threads", 0)));
  const Pretrained model = Pretrained::open({.model = settings.text("model"),
                                             .adapter = settings.text_or("adapter", ""),
                                             .dtype = settings.text("dtype"),
                                             .ignored_config_keys = settings.texts("ignore_config_key")});
  const std::string named = settings.text_or("tokenizer_name_or_path", "");
  const std::string directory = named.empty() ? model.directory() : resolve_model(named);
  tokenizer_ = Tokenizer::from_directory(directory);
  if (ChatTemplate::exists_in(directory)) template_ = ChatTemplate::from_directory(directory);
  sampling_.temperature = settings.number("temperature");
  sampling_.top_k = settings.integer("top_k");
  sampling_.top_p = settings.number("top_p");
  sampling_.seed = static_cast<uint64_t>(settings.integer("seed"));
  sampling_.max_new_tokens = settings.integer("max_new_tokens");
  sampling_.stop_ids = stop_ids(model, *tokenizer_);
  stop_texts_ = settings.texts("stop");
  GeneratorOptions options;
  options.model = model.config();
  options.network = model.network_options();
  options.capacity = std::max(model.config().max_position_embeddings, int64_t{16});
  // The cache holds what one answer can need; a longer conversation is refused by name.
  options.capacity = std::min<int64_t>(options.capacity, 4096 + sampling_.max_new_tokens);
  generator_ = std::make_unique<Generator>(std::move(options), *device_);
  generator_->set_check_nan(settings.flag("check_nan"));
  model.load_weights(generator_->parameters(), generator_->states());
  model.load_adapter_weights(generator_->parameters(), generator_->states());
}

std::string Conversationalist::render(const Json& messages) const {
  if (!template_)
    fail(
        "the model has no chat template, so there is no conversation; use --raw to continue a text, or add "
        "chat_template.jinja "
        "beside tokenizer.json");
  Json conversation = Json::object();
  conversation.set("messages", messages);
  return template_->render(conversation, {.add_generation_prompt = true}).text;
}

std::string Conversationalist::answer(const std::string& prompt, bool add_special_tokens,
                                      const std::function<void(std::string_view)>& on_text) {
  const Encoding encoding = tokenizer_->encode(prompt, {.add_special_tokens = add_special_tokens});
  DecodeStream stream(*tokenizer_);
  std::string text;
  size_t shown = 0;
  // Text that could be the beginning of a stop text is held back.
  size_t longest_stop = 0;
  for (const auto& stop : stop_texts_) longest_stop = std::max(longest_stop, stop.size());
  const auto stop_at = [&]() {
    size_t at = std::string::npos;
    for (const auto& stop : stop_texts_)
      if (!stop.empty()) at = std::min(at, text.find(stop));
    return at;
  };
  const auto show = [&](size_t end) {
    if (end > shown) on_text(std::string_view(text).substr(shown, end - shown));
    shown = std::max(shown, end);
  };
  generator_->generate(encoding.ids, sampling_, [&](int32_t id) {
    text += stream.push(id);
    if (const size_t at = stop_at(); at != std::string::npos) {
      text.resize(at);
      return false;
    }
    show(text.size() > longest_stop ? text.size() - longest_stop : 0);
    return true;
  });
  if (stop_at() == std::string::npos && shown <= text.size()) text += stream.finish();
  show(text.size());
  return text;
}

}  // namespace serval
