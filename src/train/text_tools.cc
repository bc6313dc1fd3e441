#include "train/text_tools.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "data/prepare.h"
#include "formats/gguf.h"
#include "formats/model_source.h"
#include "text/template_library.h"
#include "text/template_set.h"

namespace serval {
namespace {

constexpr const char* kTemplateFile = "chat_template.jinja";

// The special tokens as template variables: of the files, else of what the tokenizer itself knows.
Json variables_of(const Tokenizer& tokenizer, const std::string& path) {
  Json variables = is_gguf(path) ? Json::object() : template_variables(directory_of_model(path));
  const Json own = template_variables_of(tokenizer.config());
  for (const auto& [name, value] : own.as_object())
    if (!variables.contains(name)) variables.set(name, value);
  return variables;
}

struct FoundTemplate {
  std::optional<ChatTemplate> chat;
  bool own = true;
};

FoundTemplate own_template(const Tokenizer& tokenizer, const std::string& path) {
  const std::string directory = directory_of_model(path);
  const bool from_gguf = is_gguf(path);
  if (!from_gguf && ChatTemplate::exists_in(directory)) return {ChatTemplate::from_directory(directory)};
  const std::optional<TemplateSet> set = TemplateSet::from_config(tokenizer.config(), path);
  if (!set) return {};
  return {set->choose("", false), false};
}

// A model learns to end its turns with the template's token, so the tokenizer must have it.
void check_end_of_turn(const std::string& named, const LibraryTemplate& entry, const ChatTemplate& chat,
                       const Tokenizer& tokenizer, const std::string& path) {
  const std::string token =
      entry.end_of_turn.empty() ? chat.variable("eos_token") : std::string(entry.end_of_turn);
  const std::optional<int32_t> id = tokenizer.token_to_id(token), eos = tokenizer.eos_id();
  if (!id)
    fail(
        "chat_template {}: it ends a turn with {}, which is no token of {}; choose the template of this "
        "model's family, or a tokenizer that has the token",
        named, in_quotes(token), path);
  if (!eos)
    log_info("chat_template {} ends a turn with {} ({}); the tokenizer names no eos", named, in_quotes(token),
             *id);
  else if (*eos != *id)
    log_info(
        "chat_template {} ends a turn with {} ({}), the tokenizer's eos is {} ({}): the model learns to end "
        "its "
        "answers with the former, and serval stops at either; the tokenizer's files are left as they are",
        named, in_quotes(token), *id, in_quotes(tokenizer.id_to_token(*eos)), *eos);
}

FoundTemplate choose_template(const TextToolsOptions& options, const Tokenizer& tokenizer) {
  // Axolotl's name for the tokenizer's own.
  const std::string named = options.chat_template == "tokenizer_default" ? "" : options.chat_template;
  if (!named.empty()) {
    ChatTemplate chat = named_chat_template(named, variables_of(tokenizer, options.tokenizer));
    if (const LibraryTemplate* entry = built_in_template(named))
      check_end_of_turn(named, *entry, chat, tokenizer, options.tokenizer);
    return {std::move(chat), false};
  }
  if (!options.adapter.empty() && options.chat_template.empty()) {
    const std::string file = join_path(resolve_model(options.adapter), kTemplateFile);
    if (file_exists(file))
      return {named_chat_template(file, variables_of(tokenizer, options.tokenizer)), false};
  }
  return own_template(tokenizer, options.tokenizer);
}

// Templates write the tokens that the run names, not those of the files.
FoundTemplate find_template(const TextToolsOptions& options, const Tokenizer& tokenizer) {
  FoundTemplate found = choose_template(options, tokenizer);
  if (!found.chat || options.changes.name.empty()) return found;
  Json variables = variables_of(tokenizer, options.tokenizer);
  for (const NamedToken& token : options.changes.name) variables.set(token.role, token.content);
  found.chat = ChatTemplate(found.chat->source(), std::move(variables), found.chat->where());
  return found;
}

Json read_settings(const std::string& directory, const char* name) {
  const std::string path = join_path(directory, name);
  Json settings = file_exists(path) ? Json::parse(read_file(path, 16 << 20), path) : Json::object();
  return settings.is_object() ? settings : Json::object();
}

// Whether the row of embeddings is all zeros: nobody ever trained it.
std::vector<int32_t> untrained_of(const std::vector<int32_t>& ids, const Checkpoint& checkpoint) {
  const SafetensorsEntry* table = checkpoint.find("model.embed_tokens.weight");
  if (table == nullptr || table->dims.size() != 2) return {};
  const auto& type = table->format_dtype;
  if (type != "F32" && type != "BF16" && type != "F16") return {};
  std::vector<float> row(static_cast<size_t>(table->dims[1]));
  std::vector<int32_t> untrained;
  for (const int32_t id : ids) {
    if (id >= table->dims[0]) continue;
    checkpoint.read(table->name, id * table->dims[1], table->dims[1], row.data(), DType::f32);
    if (std::all_of(row.begin(), row.end(), [](float x) { return x == 0; })) untrained.push_back(id);
  }
  return untrained;
}

}  // namespace

TokenizerChanges tokenizer_changes(const TrainConfig& config) {
  TokenizerChanges changes;
  for (const auto& [role, token] : config.special_tokens) {
    changes.add.push_back({token, true});
    changes.name.push_back({role, token});
  }
  for (const std::string& token : config.new_special_tokens) changes.add.push_back({token, true});
  for (const std::string& token : config.new_tokens) changes.add.push_back({token, false});
  if (!config.eos_token.empty()) changes.name.push_back({"eos_token", config.eos_token});
  if (!config.pad_token.empty()) changes.name.push_back({"pad_token", config.pad_token});
  return changes;
}

std::string tokenizer_path(const std::string& named, const std::string& model_directory,
                           const std::string& adapter) {
  if (!named.empty()) return resolve_model(named);
  if (!adapter.empty())
    if (const std::string beside = resolve_model(adapter); file_exists(join_path(beside, "tokenizer.json")))
      return beside;
  return model_directory;
}

TextTools open_text_tools(const TextToolsOptions& options) {
  ChangedTokenizer changed = change_tokenizer(Tokenizer::from_path(options.tokenizer), options.changes);
  TextTools tools{.tokenizer = std::move(changed.tokenizer),
                  .chat_template = std::nullopt,
                  .own_template = true,
                  .fingerprint = "",
                  .new_ids = std::move(changed.new_ids),
                  .spellings = std::move(changed.spellings),
                  .old_vocab_size = changed.old_size};
  if (!options.quiet)
    for (const std::string& note : tools.tokenizer.notes()) log_info("note: {}", note);
  FoundTemplate found = find_template(options, tools.tokenizer);
  tools.chat_template = std::move(found.chat);
  tools.own_template = found.own;
  if (!found.own && !options.quiet) log_info("chat template: {}", tools.chat_template->where());
  if (options.with_fingerprint)
    tools.fingerprint = fingerprint_of_tokenizer(
        options.tokenizer, (found.own ? "" : tools.chat_template->source()) + options.changes.text());
  return tools;
}

std::string shipped_source(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  const LibraryTemplate* entry = find_library_template(chat.where());
  if (entry == nullptr || entry->source() != chat.source()) return chat.source();
  const Json named = template_variables_of(tokenizer.config());
  std::string source;
  for (const char* name : {"bos_token", "eos_token"})
    if (const std::string value = chat.variable(name);
        !value.empty() && !named.contains(name) && chat.source().find(name) != std::string::npos)
      source += fmt::format("{{% set {} = {} %}}", name, json_quote(value));
  return source + chat.source();
}

std::vector<int32_t> eos_ids_of(const std::string& directory) {
  std::vector<int32_t> ids;
  const auto add = [&](const Json& id) {
    if (id.is_int() && std::find(ids.begin(), ids.end(), static_cast<int32_t>(id.as_int())) == ids.end())
      ids.push_back(static_cast<int32_t>(id.as_int()));
  };
  for (const char* name : {"generation_config.json", "config.json"}) {
    const Json settings = read_settings(directory, name);
    const Json* eos = settings.find("eos_token_id");
    if (eos == nullptr) continue;
    if (eos->is_array())
      for (const Json& id : eos->as_array()) add(id);
    else
      add(*eos);
  }
  return ids;
}

ModelTokens model_tokens(const TextTools& tools, const std::string& directory, const Checkpoint* checkpoint) {
  ModelTokens model;
  const std::string files = directory_of_model(directory);
  const Json config = read_settings(files, "config.json");
  if (const Json* rows = config.find("vocab_size"); rows != nullptr && rows->is_int())
    model.embedding_rows = rows->as_int();
  model.eos_ids = eos_ids_of(files);
  if (tools.chat_template) model.chat_template = tools.chat_template->source();
  if (checkpoint == nullptr) return model;
  std::vector<int32_t> used;
  for (int32_t id = 0; id < tools.tokenizer.vocab_size(); ++id) {
    if (!tools.tokenizer.is_special(id)) continue;
    if (id == tools.tokenizer.eos_id() ||
        model.chat_template.find(tools.tokenizer.id_to_token(id)) != std::string::npos)
      used.push_back(id);
  }
  model.untrained_ids = untrained_of(used, *checkpoint);
  return model;
}

void report_findings(const Tokenizer& tokenizer, const ModelTokens& model) {
  using Finding = TokenizerFinding::Kind;
  for (const TokenizerFinding& finding : check_tokenizer(tokenizer, model)) {
    std::string message = finding.message;
    const auto token = [&] { return in_quotes(tokenizer.id_to_token(*finding.suggested_id)); };
    switch (finding.kind) {
      case Finding::kNoPad:
      case Finding::kPadIsEos:
        message += finding.suggested_id
                       ? fmt::format("; pad_token: {} ({}) would do", token(), *finding.suggested_id)
                       : "; special_tokens: {pad_token: \"<|pad|>\"} would add one";
        break;
      case Finding::kNoEos:
      case Finding::kOtherEos:
        if (finding.suggested_id) message += fmt::format("; eos_token: {} takes the model's", token());
        break;
      case Finding::kNoRow:
        message += "; resize_vocab: true gives them rows";
        break;
      case Finding::kUntrained:
        message += "; fix_untrained_tokens: true makes them the mean of the trained rows";
        break;
      case Finding::kUnknownToken:
        message += "; special_tokens adds and names one";
    }
    // Padding carries no loss here, so what is odd about it harms other programs alone.
    if (finding.kind == Finding::kNoPad || finding.kind == Finding::kPadIsEos)
      log_info("note: {}", message);
    else
      warn("{}", message);
  }
}

}  // namespace serval
