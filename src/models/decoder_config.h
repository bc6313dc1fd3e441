// What a decoder-only network is, read from a Hugging Face config.json: Llama 2 to 3.3, Mistral, Qwen2/2.5,
// Qwen3, in the layouts of transformers v4 (rope_theta, rope_scaling, torch_dtype) and v5 (rope_parameters,
// dtype, layer_types).
//
//   DecoderConfig c = read_decoder_config(Json::parse(text, path), path);
//
// A key that is neither used nor on the committed list of keys without influence on training is an error that
// names it: it may change the network. `ignored_keys` (--ignore-config-key) overrides that.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/dtype.h"

namespace serval {

struct DecoderConfig {
  std::string model_type;
  int64_t hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0, vocab_size = 0;
  int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  bool tie_word_embeddings = false;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;
  std::vector<int64_t> windows;           // by layer; 0: full attention
  std::vector<double> inverse_frequency;  // head_dim / 2 numbers, scaling included
  double rope_attention_scaling = 1;
  double initializer_range = 0.02;
  std::optional<DType> dtype;  // of the checkpoint, where config.json says it
  std::vector<int32_t> eos_token_ids;
  std::optional<int32_t> bos_token_id;

  int64_t parameter_count() const;  // the head counts once where it is tied
};

DecoderConfig read_decoder_config(const Json& config, const std::string& where,
                                  std::span<const std::string> ignored_keys = {});

}  // namespace serval
