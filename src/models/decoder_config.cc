#include "models/decoder_config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

// Keys that are read below.
const std::set<std::string, std::less<>> kUsedKeys = {"architectures",
                                                      "model_type",
                                                      "hidden_size",
                                                      "intermediate_size",
                                                      "num_hidden_layers",
                                                      "num_attention_heads",
                                                      "num_key_value_heads",
                                                      "head_dim",
                                                      "vocab_size",
                                                      "max_position_embeddings",
                                                      "rms_norm_eps",
                                                      "rope_theta",
                                                      "rope_scaling",
                                                      "rope_parameters",
                                                      "partial_rotary_factor",
                                                      "hidden_act",
                                                      "attention_bias",
                                                      "mlp_bias",
                                                      "initializer_range",
                                                      "tie_word_embeddings",
                                                      "bos_token_id",
                                                      "eos_token_id",
                                                      "torch_dtype",
                                                      "dtype",
                                                      "sliding_window",
                                                      "use_sliding_window",
                                                      "max_window_layers",
                                                      "layer_types",
                                                      "attention_dropout",
                                                      "quantization_config",
                                                      "pretraining_tp"};

// Keys that say nothing about the maths of training and generation.
const std::set<std::string, std::less<>> kInertKeys = {"_name_or_path",
                                                       "_attn_implementation_autoset",
                                                       "transformers_version",
                                                       "use_cache",
                                                       "pad_token_id",
                                                       "auto_map",
                                                       "chunk_size_feed_forward",
                                                       "is_decoder",
                                                       "is_encoder_decoder",
                                                       "output_attentions",
                                                       "output_hidden_states",
                                                       "return_dict",
                                                       "return_dict_in_generate",
                                                       "id2label",
                                                       "label2id",
                                                       "num_labels",
                                                       "problem_type",
                                                       "task_specific_params",
                                                       "torchscript",
                                                       "unsloth_fixed",
                                                       "unsloth_version",
                                                       "finetuning_task",
                                                       "tokenizer_class",
                                                       "prefix",
                                                       "add_cross_attention",
                                                       "cross_attention_hidden_size",
                                                       "tie_encoder_decoder",
                                                       "sep_token_id",
                                                       "decoder_start_token_id",
                                                       "use_bfloat16",
                                                       "do_sample",
                                                       "temperature",
                                                       "top_k",
                                                       "top_p",
                                                       "typical_p",
                                                       "repetition_penalty",
                                                       "length_penalty",
                                                       "max_length",
                                                       "min_length",
                                                       "num_beams",
                                                       "num_beam_groups",
                                                       "diversity_penalty",
                                                       "early_stopping",
                                                       "no_repeat_ngram_size",
                                                       "encoder_no_repeat_ngram_size",
                                                       "bad_words_ids",
                                                       "num_return_sequences",
                                                       "output_scores",
                                                       "forced_bos_token_id",
                                                       "forced_eos_token_id",
                                                       "remove_invalid_values",
                                                       "exponential_decay_length_penalty",
                                                       "suppress_tokens",
                                                       "begin_suppress_tokens",
                                                       "suppress_logits",
                                                       "pruned_heads",
                                                       "tf_legacy_loss",
                                                       "model_max_length",
                                                       "classifier_dropout",
                                                       "name_or_path",
                                                       "use_mrope",
                                                       "bos_token",
                                                       "eos_token"};

struct Reader {
  const Json& config;
  const std::string& where;

  const Json* get(std::string_view key) const {
    const Json* value = config.find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  template <class F>
  auto in_key(std::string_view key, F read) const {
    try {
      return read();
    } catch (const UserError& error) {
      fail("{}: key '{}': {}", where, key, error.what());
    }
  }
  int64_t integer(std::string_view key, std::optional<int64_t> otherwise, int64_t least = 1) const {
    const Json* value = get(key);
    if (value == nullptr) {
      if (!otherwise) fail("{}: the key '{}' is missing", where, key);
      return *otherwise;
    }
    const int64_t number = in_key(key, [&] { return value->as_int(); });
    if (number < least || number > (int64_t{1} << 31))
      fail("{}: key '{}' is {}, expected {} to 2^31", where, key, number, least);
    return number;
  }
  double number(std::string_view key, double otherwise) const {
    const Json* value = get(key);
    return value == nullptr ? otherwise : in_key(key, [&] { return value->as_double(); });
  }
  bool boolean(std::string_view key, bool otherwise) const {
    const Json* value = get(key);
    return value == nullptr ? otherwise : in_key(key, [&] { return value->as_bool(); });
  }
  std::string text(std::string_view key, const std::string& otherwise) const {
    const Json* value = get(key);
    return value == nullptr ? otherwise : in_key(key, [&] { return value->as_string(); });
  }
};

void check_keys(const Json& config, const std::string& where, std::span<const std::string> ignored) {
  for (const auto& [key, value] : config.as_object()) {
    if (kUsedKeys.contains(key) || kInertKeys.contains(key)) continue;
    if (std::find(ignored.begin(), ignored.end(), key) != ignored.end()) continue;
    std::string text = value.dump();
    if (text.size() > 80) text = text.substr(0, 77) + "...";
    fail(
        "{}: the key '{}' ({}) is not known, so training might not be what the model needs; if it has no "
        "influence, "
        "pass --ignore-config-key {}",
        where, key, text, key);
  }
}

// Frequencies as transformers computes them (f32), then the scaling of the checkpoint.
void read_rope(const Reader& r, DecoderConfig& c) {
  const Json* rope = r.get("rope_parameters");
  const Json* scaling = rope != nullptr ? rope : r.get("rope_scaling");
  const Json empty = Json::object();
  const std::string where =
      r.where + ": key '" + (rope != nullptr ? "rope_parameters" : "rope_scaling") + "'";
  const Json& s = scaling != nullptr ? *scaling : empty;
  if (!s.is_object()) fail("{}: expected an object but found {}", where, s.type_name());
  const Reader rs{s, where};
  const std::string type = rs.text("rope_type", rs.text("type", "default"));
  std::set<std::string, std::less<>> known = {"rope_type", "type", "rope_theta"};
  const double theta = rs.number("rope_theta", r.number("rope_theta", 10000.0));
  const double partial = r.number("partial_rotary_factor", 1.0);
  if (partial != 1.0) fail("{}: key 'partial_rotary_factor' is {}; only 1.0 is supported", r.where, partial);
  if (theta <= 0) fail("{}: rope_theta is {}, expected a positive number", r.where, theta);
  for (int64_t i = 0; i < c.head_dim; i += 2)
    c.inverse_frequency.push_back(static_cast<double>(
        1.0f / std::pow(static_cast<float>(theta), static_cast<float>(i) / static_cast<float>(c.head_dim))));
  if (type == "linear") {
    known.insert("factor");
    const double factor = rs.number("factor", 1.0);
    if (factor < 1) fail("{}: factor is {}, expected at least 1", where, factor);
    for (double& f : c.inverse_frequency)
      f = static_cast<double>(static_cast<float>(f) / static_cast<float>(factor));
  } else if (type == "llama3") {
    known.insert({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
    const double factor = s.at("factor").as_double(), low = s.at("low_freq_factor").as_double();
    const double high = s.at("high_freq_factor").as_double();
    const double length = s.at("original_max_position_embeddings").as_double();
    if (factor < 1 || low <= 0 || high <= low || length <= 0)
      fail("{}: the llama3 factors are out of range", where);
    for (double& f : c.inverse_frequency) {
      const double wavelength = 2 * 3.14159265358979323846 / f;
      if (wavelength < length / high) continue;
      if (wavelength > length / low) {
        f /= factor;
      } else {
        const double smooth = (length / wavelength - low) / (high - low);
        f = (1 - smooth) * f / factor + smooth * f;
      }
      f = static_cast<double>(static_cast<float>(f));
    }
  } else if (type != "default") {
    fail("{}: the RoPE scaling '{}' is not supported yet; supported: default, linear, llama3", where, type);
  }
  for (const auto& [key, value] : s.as_object())
    if (!known.contains(key) && !value.is_null())
      fail("{}: the key '{}' is not known for rope_type '{}'", where, key, type);
}

void read_windows(const Reader& r, DecoderConfig& c) {
  const bool qwen = c.model_type == "qwen2" || c.model_type == "qwen3";
  const int64_t window = r.integer("sliding_window", 0, 0);
  c.windows.assign(static_cast<size_t>(c.num_hidden_layers), 0);
  if (const Json* types = r.get("layer_types")) {
    const auto& list = types->as_array();
    if (static_cast<int64_t>(list.size()) != c.num_hidden_layers)
      fail("{}: key 'layer_types' has {} entries for {} layers", r.where, list.size(), c.num_hidden_layers);
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string& type = list[i].as_string();
      if (type == "sliding_attention") {
        if (window == 0)
          fail("{}: layer {} has sliding attention but there is no sliding_window", r.where, i);
        c.windows[i] = window;
      } else if (type != "full_attention") {
        fail("{}: layer type '{}' is not supported", r.where, type);
      }
    }
    return;
  }
  if (window == 0 || c.model_type == "llama") return;
  if (qwen) {
    if (!r.boolean("use_sliding_window", false)) return;
    const int64_t first = r.integer("max_window_layers", c.num_hidden_layers, 0);
    for (int64_t i = first; i < c.num_hidden_layers; ++i) c.windows[static_cast<size_t>(i)] = window;
    return;
  }
  std::fill(c.windows.begin(), c.windows.end(), window);
}

std::vector<int32_t> token_ids(const Reader& r, std::string_view key, int64_t vocab_size) {
  std::vector<int32_t> ids;
  const Json* value = r.get(key);
  if (value == nullptr) return ids;
  const auto add = [&](const Json& item) {
    const int64_t id = r.in_key(key, [&] { return item.as_int(); });
    if (id < 0 || id >= vocab_size)
      fail("{}: key '{}': token {} is outside the vocabulary of {}", r.where, key, id, vocab_size);
    ids.push_back(static_cast<int32_t>(id));
  };
  if (value->is_array())
    for (const Json& item : value->as_array()) add(item);
  else
    add(*value);
  return ids;
}

}  // namespace

int64_t DecoderConfig::parameter_count() const {
  const int64_t q = num_attention_heads * head_dim, kv = num_key_value_heads * head_dim;
  int64_t layer =
      hidden_size * (q + 2 * kv) + q * hidden_size + 3 * hidden_size * intermediate_size + 2 * hidden_size;
  if (qkv_bias) layer += q + 2 * kv;
  if (o_bias) layer += hidden_size;
  if (mlp_bias) layer += 2 * intermediate_size + hidden_size;
  if (qk_norm) layer += 2 * head_dim;
  return num_hidden_layers * layer + hidden_size + vocab_size * hidden_size * (tie_word_embeddings ? 1 : 2);
}

DecoderConfig read_decoder_config(const Json& config, const std::string& where,
                                  std::span<const std::string> ignored_keys) {
  if (!config.is_object()) fail("{}: expected an object but found {}", where, config.type_name());
  const Reader r{config, where};
  DecoderConfig c;
  c.model_type = r.text("model_type", "");
  std::string architecture;
  if (const Json* list = r.get("architectures")) {
    if (!list->is_array() || list->size() == 0 || !list->as_array()[0].is_string())
      fail("{}: key 'architectures': expected a list with one name", where);
    architecture = list->as_array()[0].as_string();
  }
  static const std::vector<std::pair<std::string, std::string>> families = {{"llama", "LlamaForCausalLM"},
                                                                            {"mistral", "MistralForCausalLM"},
                                                                            {"qwen2", "Qwen2ForCausalLM"},
                                                                            {"qwen3", "Qwen3ForCausalLM"}};
  const bool known = std::any_of(families.begin(), families.end(), [&](const auto& family) {
    return family.first == c.model_type && (architecture.empty() || family.second == architecture);
  });
  if (!known)
    fail(
        "{}: the architecture {} (model_type '{}') is not supported; supported: LlamaForCausalLM, "
        "MistralForCausalLM, "
        "Qwen2ForCausalLM, Qwen3ForCausalLM",
        where, architecture.empty() ? "without a name" : architecture, c.model_type);
  if (r.get("quantization_config") != nullptr)
    fail("{}: the checkpoint is quantized, which cannot be read yet; use the 16-bit checkpoint of this model",
         where);
  check_keys(config, where, ignored_keys);

  c.hidden_size = r.integer("hidden_size", std::nullopt);
  c.intermediate_size = r.integer("intermediate_size", std::nullopt);
  c.num_hidden_layers = r.integer("num_hidden_layers", std::nullopt);
  c.num_attention_heads = r.integer("num_attention_heads", std::nullopt);
  c.num_key_value_heads = r.integer("num_key_value_heads", c.num_attention_heads);
  c.vocab_size = r.integer("vocab_size", std::nullopt);
  c.max_position_embeddings = r.integer("max_position_embeddings", 2048);
  if (c.num_hidden_layers > 4096 || c.num_attention_heads > (1 << 16) || c.vocab_size > (1 << 24) ||
      c.hidden_size > (1 << 20) || c.intermediate_size > (1 << 22))
    fail("{}: the sizes are beyond any model of this kind", where);
  const bool qwen3 = c.model_type == "qwen3";
  c.head_dim = r.integer("head_dim", qwen3 ? 128 : c.hidden_size / c.num_attention_heads);
  if (r.get("head_dim") == nullptr && !qwen3 && c.hidden_size % c.num_attention_heads != 0)
    fail("{}: hidden_size {} is no multiple of num_attention_heads {}", where, c.hidden_size,
         c.num_attention_heads);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    fail("{}: num_attention_heads {} is no multiple of num_key_value_heads {}", where, c.num_attention_heads,
         c.num_key_value_heads);
  if (c.head_dim % 8 != 0 || c.head_dim > 256)
    fail("{}: head_dim is {}; supported are multiples of 8 up to 256", where, c.head_dim);
  c.rms_norm_eps = r.number("rms_norm_eps", 1e-6);
  if (!(c.rms_norm_eps >= 0)) fail("{}: rms_norm_eps is {}, expected a number >= 0", where, c.rms_norm_eps);
  c.initializer_range = r.number("initializer_range", 0.02);
  c.tie_word_embeddings = r.boolean("tie_word_embeddings", false);
  if (const std::string act = r.text("hidden_act", "silu"); act != "silu" && act != "swish")
    fail("{}: hidden_act '{}' is not supported; supported: silu", where, act);
  if (const double dropout = r.number("attention_dropout", 0); dropout != 0)
    fail("{}: attention_dropout is {}; only 0 is supported", where, dropout);
  if (const int64_t tp = r.integer("pretraining_tp", 1); tp != 1)
    fail("{}: pretraining_tp is {}; only 1 is supported", where, tp);
  const bool attention_bias = r.boolean("attention_bias", false);
  c.qkv_bias = c.model_type == "qwen2" || attention_bias;
  c.o_bias = c.model_type != "qwen2" && attention_bias;
  c.mlp_bias = c.model_type == "llama" && r.boolean("mlp_bias", false);
  c.qk_norm = qwen3;
  read_rope(r, c);
  read_windows(r, c);
  const std::string dtype = r.text("dtype", r.text("torch_dtype", ""));
  if (!dtype.empty()) {
    c.dtype = dtype_from_name(dtype);
    if (!c.dtype || !is_floating(*c.dtype)) fail("{}: dtype '{}' is not a floating-point type", where, dtype);
  }
  c.eos_token_ids = token_ids(r, "eos_token_id", c.vocab_size);
  if (const auto bos = token_ids(r, "bos_token_id", c.vocab_size); !bos.empty()) c.bos_token_id = bos[0];
  return c;
}

}  // namespace serval
