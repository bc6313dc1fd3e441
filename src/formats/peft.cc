#include "formats/peft.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace serval {
namespace {

constexpr const char* kPrefix = "base_model.model.";

bool is_default(const Json& value) {
  if (value.is_null()) return true;
  if (value.is_bool()) return !value.as_bool();
  if (value.is_array() || value.is_object()) return value.size() == 0;
  return false;
}

// Features that change the maths: only their off values are accepted.
const char* const kRefused[] = {"use_dora",          "lora_bias",         "alora_invocation_tokens",
                                "layer_replication", "target_parameters", "fan_in_fan_out",
                                "use_qalora",        "use_bdlora",        "megatron_config",
                                "arrow_config",      "kasa_config",       "velora_config",
                                "monteclora_config"};

// Keys that only say how the adapter was made or is managed.
const std::set<std::string, std::less<>> kInert = {
    "auto_mapping", "inference_mode", "init_lora_weights", "loftq_config", "megatron_core",
    "peft_type",    "peft_version",   "revision",          "task_type",    "qalora_group_size",
    "corda_config", "eva_config",     "lora_ga_config",    "bias",         "runtime_config"};

constexpr int64_t kMaxRank = 65536;

bool name_or_suffix(const std::string& module, const std::string& name) {
  return module == name || (module.size() > name.size() && module.ends_with(name) &&
                            module[module.size() - name.size() - 1] == '.');
}

using Patterns = std::vector<std::pair<std::string, double>>;

// As PEFT's get_pattern_key puts it together.
Regex end_pattern(const std::string& pattern, const std::string& where) {
  return Regex("(.*\\.)?(" + pattern + ")$", where);
}

std::optional<double> pattern_value(const Patterns& patterns, const std::string& module) {
  for (const auto& [pattern, value] : patterns)
    if (end_pattern(pattern, "adapter pattern").matches_start(module)) return value;
  return std::nullopt;
}

// "layers.7." in a module's name: the number is the group "layer". Lazy, so that in "layers.1.experts.0." it
// is 1. `pattern` is what stands before the number; empty: any part that is not the name's first.
Regex layer_number(const std::string& pattern, const std::string& where) {
  const std::string before = pattern.empty() ? ".*?\\.[^.]*" : "(?:^|.*?\\.)" + pattern;
  return Regex(before + "\\.(?<layer>\\d+)\\.", where);
}

// What follows reads one key of adapter_config.json.
struct Names {
  std::vector<std::string> list;
  bool regex = false;
};

Names read_names(const Json& value) {
  Names names;
  if (value.is_string()) {
    std::string text = value.as_string(), lower = text;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    names.regex = lower != "all-linear";
    names.list = {names.regex ? std::move(text) : std::move(lower)};
    return names;
  }
  for (const Json& item : value.as_array()) names.list.push_back(item.as_string());
  return names;
}

Patterns read_patterns(const Json& value) {
  Patterns patterns;
  for (const auto& [name, number] : value.as_object()) patterns.emplace_back(name, number.as_double());
  return patterns;
}

// True where the key is known.
bool read_key(AdapterConfig& c, const std::string& key, const Json& value) {
  const auto items = [](const Json& v) { return v.is_array() ? v.as_array() : Json::Array{v}; };
  if (key == "base_model_name_or_path") {
    c.base_model = value.as_string();
  } else if (key == "r") {
    c.r = value.as_int();
  } else if (key == "lora_alpha") {
    c.alpha = value.as_double();
  } else if (key == "lora_dropout") {
    c.dropout = value.as_double();
  } else if (key == "use_rslora") {
    c.use_rslora = value.as_bool();
  } else if (key == "target_modules") {
    Names names = read_names(value);
    c.target_modules = std::move(names.list);
    c.targets_are_regex = names.regex;
  } else if (key == "exclude_modules") {
    // "all-linear" means nothing special here: a text is a regular expression.
    c.excludes_are_regex = value.is_string();
    for (const Json& item : items(value)) c.exclude_modules.push_back(item.as_string());
  } else if (key == "modules_to_save") {
    for (const Json& item : items(value)) c.modules_to_save.push_back(item.as_string());
  } else if (key == "trainable_token_indices") {
    // A list is of the embeddings; a map names modules.
    if (value.is_object() && value.size() > 0 && (value.size() != 1 || !value.contains("embed_tokens")))
      fail("only rows of embed_tokens are supported, found {}", in_quotes(value.dump(), 80));
    const Json& list = value.is_object() && value.size() > 0 ? value.at("embed_tokens") : value;
    for (const Json& item : items(list))
      if (!item.is_object()) c.trained_tokens.push_back(item.as_int());
  } else if (key == "ensure_weight_tying") {
    c.ensure_weight_tying = value.as_bool();
  } else if (key == "layers_to_transform") {
    for (const Json& item : items(value)) c.layers_to_transform.push_back(item.as_int());
  } else if (key == "layers_pattern") {
    for (const Json& item : items(value)) c.layers_pattern.push_back(item.as_string());
  } else if (key == "rank_pattern") {
    c.rank_pattern = read_patterns(value);
  } else if (key == "alpha_pattern") {
    c.alpha_pattern = read_patterns(value);
  } else {
    return kInert.contains(key);
  }
  return true;
}

// These start from weights that are not the base's: PEFT changes the base when it loads such an adapter.
bool changes_base(const Json& init) {
  if (!init.is_string()) return false;
  const std::string& name = init.as_string();
  for (const char* harmless : {"gaussian", "eva", "orthogonal"})
    if (name == harmless) return false;
  return true;
}

void refuse_unsupported(const Json& json, const std::string& where) {
  const Json* type = json.find("peft_type");
  if (type == nullptr || !type->is_string() || type->as_string() != "LORA")
    fail("{}: peft_type is {}; only LORA adapters can be read", where,
         type == nullptr ? "missing" : in_quotes(type->dump(), 80));
  for (const char* key : kRefused)
    if (const Json* value = json.find(key); value != nullptr && !is_default(*value))
      fail("{}: the adapter uses '{}' ({}), which is not supported yet", where, key,
           in_quotes(value->dump(), 80));
  if (const Json* bias = json.find("bias"); bias != nullptr && !is_default(*bias) && *bias != Json("none"))
    fail("{}: the adapter trains biases (bias: {}), which is not supported yet", where,
         in_quotes(bias->dump(), 80));
  if (const Json* init = json.find("init_lora_weights"); init != nullptr && changes_base(*init))
    fail(
        "{}: init_lora_weights is {}: such an adapter belongs to a changed base, which is not supported; "
        "convert it with PEFT (path_initial_model_for_weight_conversion)",
        where, in_quotes(init->dump(), 80));
}

}  // namespace

AdapterConfig AdapterConfig::read(const std::string& directory) {
  const std::string path = join_path(directory, "adapter_config.json");
  if (!file_exists(path)) fail("{}: missing; expected the directory of a PEFT adapter", path);
  return from_json(Json::parse(read_file(path, 16 << 20), path), path);
}

AdapterConfig AdapterConfig::from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) fail("{}: expected an object but found {}", where, json.type_name());
  refuse_unsupported(json, where);
  AdapterConfig c;
  for (const auto& [key, value] : json.as_object()) {
    if (value.is_null() || value == Json("")) continue;
    bool known = false;
    try {
      known = read_key(c, key, value);
    } catch (const UserError& error) {
      fail("{}: key {}: {}", where, in_quotes(key), error.what());
    }
    if (!known && !is_default(value)) c.ignored.push_back(key);
  }
  c.check(where);
  return c;
}

void AdapterConfig::check(const std::string& where) const {
  if (r < 1 || r > kMaxRank) fail("{}: r is {}, expected a rank between 1 and {}", where, r, kMaxRank);
  if (!std::isfinite(alpha)) fail("{}: lora_alpha is {}, expected a number", where, alpha);
  if (!(dropout >= 0 && dropout < 1)) fail("{}: lora_dropout is {}, expected 0 <= p < 1", where, dropout);
  if (target_modules.empty())
    fail("{}: target_modules is missing; expected a list of names, a regular expression or \"all-linear\"",
         where);
  const bool one_text = targets_are_regex || target_modules[0] == "all-linear";
  if (one_text && (!layers_to_transform.empty() || !layers_pattern.empty()))
    fail("{}: layers_to_transform and layers_pattern need target_modules as a list of names", where);
  if (!layers_pattern.empty() && layers_to_transform.empty())
    fail("{}: layers_pattern has no effect without layers_to_transform", where);
  if (targets_are_regex) Regex(target_modules[0], where + ": target_modules");
  if (excludes_are_regex) Regex(exclude_modules[0], where + ": exclude_modules");
  for (const auto& pattern : layers_pattern) layer_number(pattern, where + ": layers_pattern");
  for (const auto& [name, rank] : rank_pattern) {
    end_pattern(name, where + ": rank_pattern");
    if (!(rank >= 1 && rank <= kMaxRank) || rank != std::floor(rank))
      fail("{}: rank_pattern {}: {} is no rank", where, in_quotes(name), rank);
  }
  for (const auto& [name, value] : alpha_pattern) {
    end_pattern(name, where + ": alpha_pattern");
    if (!std::isfinite(value)) fail("{}: alpha_pattern {}: {} is no number", where, in_quotes(name), value);
  }
}

Json AdapterConfig::to_json() const {
  // Some readers take lora_alpha for an integer and nothing else.
  const auto number = [](double value) {
    const bool integral = value == std::floor(value) && std::abs(value) < 1e15;
    return integral ? Json(static_cast<int64_t>(value)) : Json(value);
  };
  const auto texts = [](const std::vector<std::string>& list, bool one) {
    if (one || (list.size() == 1 && list[0] == "all-linear")) return Json(list[0]);
    Json array = Json::array();
    for (const auto& item : list) array.push_back(Json(item));
    return array;
  };
  // In the order given, not sorted: the first match counts.
  const auto map = [&](const Patterns& list) {
    Json object = Json::object();
    for (const auto& [name, value] : list) object.set(name, number(value));
    return object;
  };
  Json layers;
  for (const int64_t layer : layers_to_transform) layers.push_back(Json(layer));
  Json pattern;
  for (const auto& name : layers_pattern) pattern.push_back(Json(name));
  Json j = Json::object();  // sorted, as PEFT writes it
  j.set("alpha_pattern", map(alpha_pattern));
  j.set("auto_mapping", Json());
  j.set("base_model_name_or_path", base_model.empty() ? Json() : Json(base_model));
  j.set("bias", Json("none"));
  j.set("exclude_modules", exclude_modules.empty() ? Json() : texts(exclude_modules, excludes_are_regex));
  j.set("fan_in_fan_out", Json(false));
  j.set("inference_mode", Json(true));
  j.set("init_lora_weights", Json(true));
  j.set("layers_pattern", pattern);
  j.set("layers_to_transform", layers);
  j.set("lora_alpha", number(alpha));
  j.set("lora_dropout", Json(dropout));
  j.set("modules_to_save", modules_to_save.empty() ? Json() : texts(modules_to_save, false));
  j.set("peft_type", Json("LORA"));
  j.set("r", Json(r));
  j.set("rank_pattern", map(rank_pattern));
  j.set("revision", Json());
  j.set("target_modules", texts(target_modules, targets_are_regex));
  j.set("task_type", Json("CAUSAL_LM"));
  j.set("use_dora", Json(false));
  j.set("use_rslora", Json(use_rslora));
  return j;
}

bool AdapterConfig::in_chosen_layer(const std::string& module) const {
  const std::vector<std::string> any = {""};
  std::optional<std::string> number;
  for (const std::string& pattern : layers_pattern.empty() ? any : layers_pattern) {
    number = layer_number(pattern, "layers_pattern").named_group(module, "layer");
    if (number) break;
  }
  if (!number) return false;
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(number->data(), number->data() + number->size(), layer);
  if (error != std::errc() || end != number->data() + number->size()) return false;
  return std::find(layers_to_transform.begin(), layers_to_transform.end(), layer) !=
         layers_to_transform.end();
}

bool AdapterConfig::targets(const std::string& module) const {
  const auto listed = [&](const std::vector<std::string>& names) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return name_or_suffix(module, name); });
  };
  const bool excluded = excludes_are_regex
                            ? Regex(exclude_modules[0], "exclude_modules").matches_whole(module)
                            : listed(exclude_modules);
  if (excluded) return false;
  if (target_modules.size() == 1 && target_modules[0] == "all-linear") return true;
  if (targets_are_regex) return Regex(target_modules[0], "target_modules").matches_whole(module);
  // A module that is listed by its whole name is adapted whatever layer it is in.
  if (std::find(target_modules.begin(), target_modules.end(), module) != target_modules.end()) return true;
  return listed(target_modules) && (layers_to_transform.empty() || in_chosen_layer(module));
}

bool AdapterConfig::saves(const std::string& module) const {
  return std::any_of(modules_to_save.begin(), modules_to_save.end(),
                     [&](const std::string& end) { return module.ends_with(end); });
}

std::optional<LoraShape> AdapterConfig::match(const std::string& module) const {
  if (saves(module) || !targets(module)) return std::nullopt;
  LoraShape shape;
  shape.rank = static_cast<int64_t>(pattern_value(rank_pattern, module).value_or(static_cast<double>(r)));
  shape.alpha = pattern_value(alpha_pattern, module).value_or(alpha);
  const double rank = static_cast<double>(shape.rank);
  shape.scale = shape.alpha / (use_rslora ? std::sqrt(rank) : rank);
  return shape;
}

std::string peft_name(const std::string& name) {
  return kPrefix + name;
}

AdapterFile::AdapterFile(const std::string& directory)
    : file_(join_path(directory, "adapter_model.safetensors")) {
  for (const auto& entry : file_.entries()) {
    if (!entry.name.starts_with(kPrefix))
      fail("{}: the tensor {} does not begin with '{}'", file_.path(), in_quotes(entry.name), kPrefix);
    std::string name = entry.name.substr(std::string_view(kPrefix).size());
    bool is_lora = false;
    for (const std::string part : {".lora_A.", ".lora_B."}) {
      const size_t at = name.rfind(part);
      if (at == std::string::npos || !name.ends_with(".weight")) continue;
      name = name.substr(0, at) + part + "weight";  // without the adapter's name
      is_lora = true;
      break;
    }
    if (name == "model.embed_tokens.token_adapter.trainable_tokens_delta") {
      token_rows_ = &entry;
      continue;
    }
    if (!is_lora &&
        (name.find(".lora_") != std::string::npos || name.find("token_adapter") != std::string::npos))
      fail(
          "{}: the tensor {} is neither a lora_A nor a lora_B weight nor a whole module, which is not "
          "supported "
          "yet",
          file_.path(), in_quotes(entry.name));
    if (!(is_lora ? tensors_ : saved_).emplace(name, &entry).second)
      fail("{}: the tensor {} appears twice", file_.path(), in_quotes(name));
  }
  check_pairs();
}

void AdapterFile::check_pairs() const {
  if (tensors_.empty() && saved_.empty() && token_rows_ == nullptr)
    fail("{}: the adapter has no tensors", file_.path());
  for (const auto& [name, entry] : saved_)
    if (!entry->dtype || !is_floating(*entry->dtype))
      fail("{}: the tensor {} is {}, expected a floating-point type", file_.path(), in_quotes(entry->name),
           entry->format_dtype);
  for (const auto& [name, entry] : tensors_) {
    const bool is_a = name.ends_with(".lora_A.weight");
    const std::string module = name.substr(0, name.size() - std::string_view(".lora_A.weight").size());
    const auto other = tensors_.find(module + (is_a ? ".lora_B.weight" : ".lora_A.weight"));
    if (other == tensors_.end())
      fail("{}: the module {} has no {}", file_.path(), in_quotes(module), is_a ? "lora_B" : "lora_A");
    if (entry->dims.size() != 2)
      fail("{}: the tensor {} has {} dimensions, expected 2", file_.path(), in_quotes(entry->name),
           entry->dims.size());
    if (!entry->dtype || !is_floating(*entry->dtype))
      fail("{}: the tensor {} is {}, expected a floating-point type", file_.path(), in_quotes(entry->name),
           entry->format_dtype);
    const auto& b = other->second->dims;
    if (is_a && b.size() == 2 && entry->dims[0] != b[1])
      fail("{}: the module {} has rank {} in lora_A but {} in lora_B", file_.path(), in_quotes(module),
           entry->dims[0], b[1]);
  }
}

}  // namespace serval
