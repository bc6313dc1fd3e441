#include "formats/peft.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/file.h"

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
const char* const kRefused[] = {
    "use_dora",          "lora_bias",       "alora_invocation_tokens", "layer_replication",
    "target_parameters", "modules_to_save", "trainable_token_indices", "fan_in_fan_out",
    "use_qalora",        "use_bdlora",      "megatron_config",         "arrow_config",
    "kasa_config",       "velora_config",   "monteclora_config"};

// Keys that only say how the adapter was made or is managed.
const std::set<std::string, std::less<>> kInert = {"auto_mapping",      "base_model_name_or_path",
                                                   "inference_mode",    "init_lora_weights",
                                                   "loftq_config",      "megatron_core",
                                                   "peft_type",         "peft_version",
                                                   "revision",          "task_type",
                                                   "qalora_group_size", "corda_config",
                                                   "eva_config",        "ensure_weight_tying",
                                                   "lora_ga_config",    "bias"};

struct Names {
  std::vector<std::string> list;
  bool regex = false;
};

Names names_of(const Json& value, const std::string& where, const char* key) {
  Names names;
  if (value.is_null()) return names;
  if (value.is_string()) {
    names.list = {value.as_string()};
    names.regex = value.as_string() != "all-linear";
    return names;
  }
  if (!value.is_array()) fail("{}: key '{}': expected a list of names or one text", where, key);
  for (const Json& item : value.as_array()) {
    if (!item.is_string()) fail("{}: key '{}': expected a list of names", where, key);
    names.list.push_back(item.as_string());
  }
  return names;
}

bool name_or_suffix(const std::string& module, const std::string& name) {
  return module == name || (module.size() > name.size() && module.ends_with(name) &&
                            module[module.size() - name.size() - 1] == '.');
}

// PEFT's get_pattern_key: the first pattern that the end of the module's name matches.
std::optional<double> pattern_value(const std::vector<std::pair<std::string, double>>& patterns,
                                    const std::string& module) {
  for (const auto& [pattern, value] : patterns)
    if (Regex("(.*\\.)?(" + pattern + ")$", "adapter pattern '" + pattern + "'").matches_start(module))
      return value;
  return std::nullopt;
}

// The number that follows "layers." (or one of the patterns) in a module's name.
std::optional<int64_t> layer_index(const std::string& module, const std::vector<std::string>& patterns) {
  size_t begin = 0;
  std::string before;
  while (begin <= module.size()) {
    const size_t end = std::min(module.find('.', begin), module.size());
    const std::string part = module.substr(begin, end - begin);
    const bool number = !part.empty() && part.size() < 10 &&
                        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number && !before.empty() &&
        (patterns.empty() || std::find(patterns.begin(), patterns.end(), before) != patterns.end()))
      return std::stoll(part);
    before = part;
    begin = end + 1;
  }
  return std::nullopt;
}

}  // namespace

AdapterConfig AdapterConfig::read(const std::string& directory) {
  const std::string path = join_path(directory, "adapter_config.json");
  if (!file_exists(path)) fail("{}: missing; expected the directory of a PEFT adapter", path);
  return from_json(Json::parse(read_file(path, 16 << 20), path), path);
}

AdapterConfig AdapterConfig::from_json(const Json& json, const std::string& where) {
  AdapterConfig c;
  if (!json.is_object()) fail("{}: expected an object but found {}", where, json.type_name());
  const Json* type = json.find("peft_type");
  if (type == nullptr || !type->is_string() || type->as_string() != "LORA")
    fail("{}: peft_type is {}; only LORA adapters can be read", where,
         type == nullptr ? "missing" : type->dump());
  for (const char* key : kRefused)
    if (const Json* value = json.find(key); value != nullptr && !is_default(*value))
      fail("{}: the adapter uses '{}' ({}), which is not supported", where, key, value->dump().substr(0, 80));
  if (const Json* bias = json.find("bias");
      bias != nullptr && !is_default(*bias) && bias->as_string() != "none")
    fail("{}: the adapter trains biases (bias: {}), which is not supported", where, bias->dump());
  const auto patterns = [&](const Json& value, const char* key) {
    std::vector<std::pair<std::string, double>> list;
    if (value.is_null()) return list;
    if (!value.is_object()) fail("{}: key '{}': expected an object of numbers", where, key);
    for (const auto& [name, number] : value.as_object()) {
      if (!number.is_number() || !(number.as_double() > 0))
        fail("{}: key '{}': '{}' is no positive number", where, key, name);
      list.emplace_back(name, number.as_double());
    }
    return list;
  };
  for (const auto& [key, value] : json.as_object()) {
    try {
      if (key == "base_model_name_or_path" && value.is_string())
        c.base_model = value.as_string();
      else if (key == "r")
        c.r = value.as_int();
      else if (key == "lora_alpha")
        c.alpha = value.as_double();
      else if (key == "lora_dropout")
        c.dropout = value.as_double();
      else if (key == "use_rslora")
        c.use_rslora = value.as_bool();
      else if (key == "target_modules") {
        const Names names = names_of(value, where, "target_modules");
        c.target_modules = names.list;
        c.targets_are_regex = names.regex;
      } else if (key == "exclude_modules") {
        const Names names = names_of(value, where, "exclude_modules");
        c.exclude_modules = names.list;
        c.excludes_are_regex = names.regex;
      } else if (key == "layers_to_transform" && !value.is_null()) {
        if (value.is_int())
          c.layers_to_transform = {value.as_int()};
        else
          for (const Json& item : value.as_array()) c.layers_to_transform.push_back(item.as_int());
      } else if (key == "layers_pattern" && !value.is_null()) {
        if (value.is_string())
          c.layers_pattern = {value.as_string()};
        else
          for (const Json& item : value.as_array()) c.layers_pattern.push_back(item.as_string());
      } else if (key == "rank_pattern")
        c.rank_pattern = patterns(value, "rank_pattern");
      else if (key == "alpha_pattern")
        c.alpha_pattern = patterns(value, "alpha_pattern");
      else if (!kInert.contains(key) &&
               std::find(std::begin(kRefused), std::end(kRefused), key) == std::end(kRefused) &&
               key != "layers_to_transform" && key != "layers_pattern" && !is_default(value))
        c.ignored.push_back(key);
    } catch (const UserError& error) {
      fail("{}: key '{}': {}", where, key, error.what());
    }
  }
  if (c.r < 1 || c.r > 65536) fail("{}: r is {}, expected a rank between 1 and 65536", where, c.r);
  for (const auto& [name, rank] : c.rank_pattern)
    if (rank != std::floor(rank) || rank > 65536) fail("{}: rank_pattern '{}' is no rank", where, name);
  if (!(c.dropout >= 0 && c.dropout < 1))
    fail("{}: lora_dropout is {}, expected 0 <= p < 1", where, c.dropout);
  if (c.target_modules.empty()) fail("{}: target_modules is missing", where);
  return c;
}

Json AdapterConfig::to_json() const {
  const auto number = [](double value) {
    return value == std::floor(value) ? Json(static_cast<int64_t>(value)) : Json(value);
  };
  const auto texts = [](const std::vector<std::string>& list, bool one) {
    if (one || (list.size() == 1 && list[0] == "all-linear")) return Json(list[0]);
    Json array = Json::array();
    for (const auto& item : list) array.push_back(Json(item));
    return array;
  };
  const auto map = [&](const std::vector<std::pair<std::string, double>>& list) {
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
  j.set("base_model_name_or_path", Json(base_model));
  j.set("bias", Json("none"));
  j.set("exclude_modules", exclude_modules.empty() ? Json() : texts(exclude_modules, excludes_are_regex));
  j.set("fan_in_fan_out", Json(false));
  j.set("inference_mode", Json(true));
  j.set("init_lora_weights", Json(true));
  j.set("layers_pattern", pattern);
  j.set("layers_to_transform", layers);
  j.set("lora_alpha", number(alpha));
  j.set("lora_dropout", Json(dropout));
  j.set("modules_to_save", Json());
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

bool AdapterConfig::targets(const std::string& module) const {
  if (excludes_are_regex) {
    if (Regex(exclude_modules[0], "exclude_modules").matches_whole(module)) return false;
  } else {
    for (const auto& name : exclude_modules)
      if (name_or_suffix(module, name)) return false;
  }
  if (target_modules.size() == 1 && target_modules[0] == "all-linear") return true;
  if (targets_are_regex) return Regex(target_modules[0], "target_modules").matches_whole(module);
  const bool listed = std::any_of(target_modules.begin(), target_modules.end(),
                                  [&](const std::string& name) { return name_or_suffix(module, name); });
  if (!listed || layers_to_transform.empty()) return listed;
  const auto layer = layer_index(module, layers_pattern);
  return layer && std::find(layers_to_transform.begin(), layers_to_transform.end(), *layer) !=
                      layers_to_transform.end();
}

std::optional<LoraShape> AdapterConfig::match(const std::string& module) const {
  if (!targets(module)) return std::nullopt;
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
    std::string name = entry.name;
    if (!name.starts_with(kPrefix))
      fail("{}: the tensor '{}' does not begin with '{}'", file_.path(), name, kPrefix);
    name = name.substr(std::string_view(kPrefix).size());
    // "...lora_A.default.weight" -> "...lora_A.weight"
    for (const char* part : {".lora_A.", ".lora_B."}) {
      const size_t at = name.rfind(part);
      if (at != std::string::npos && name.ends_with(".weight")) name = name.substr(0, at) + part + "weight";
    }
    if (!name.ends_with(".lora_A.weight") && !name.ends_with(".lora_B.weight"))
      fail("{}: the tensor '{}' is neither a lora_A nor a lora_B weight, which is not supported",
           file_.path(), entry.name);
    if (!tensors_.emplace(name, &entry).second) fail("{}: the tensor '{}' appears twice", file_.path(), name);
  }
}

}  // namespace serval
