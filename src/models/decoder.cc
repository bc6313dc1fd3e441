#include "models/decoder.h"

#include <cmath>

#include "base/error.h"
#include "ops/attention/attention.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/swiglu/swiglu.h"

namespace serval {
namespace {

TensorId attend(Network& net, const DecoderConfig& c, const DecoderInputs& in, int64_t layer,
                const ops::RotatedQk& qk, TensorId v) {
  ProgramBuilder& b = net.b;
  const ops::AttentionOptions options{.num_heads = c.num_attention_heads,
                                      .num_key_value_heads = c.num_key_value_heads,
                                      .head_dim = c.head_dim,
                                      .scale = 1 / std::sqrt(static_cast<double>(c.head_dim)),
                                      .window = c.windows[static_cast<size_t>(layer)],
                                      .max_length = in.longest_document,
                                      .deterministic = net.options().deterministic,
                                      .own_kernels = net.options().own_attention};
  if (in.past_lengths == kNone)
    return ops::attention(b, "self_attn.attention", qk.q, qk.k, v, in.cu_seqlens, options);
  const Shape shape{in.sequences * in.cache_capacity, c.num_key_value_heads * c.head_dim};
  const ops::KeyValueCache cache{
      .k = b.state(b.scoped("self_attn.k_cache"), net.options().compute, shape, Role::cache),
      .v = b.state(b.scoped("self_attn.v_cache"), net.options().compute, shape, Role::cache),
      .past_lengths = in.past_lengths,
      .capacity = in.cache_capacity};
  return ops::attention_cached(b, "self_attn.attention", qk.q, qk.k, v, in.cu_seqlens, cache, options);
}

}  // namespace

TensorId decoder_forward(Network& net, const DecoderConfig& c, const DecoderInputs& in) {
  ProgramBuilder& b = net.b;
  const NameScope model(b, "model");
  const int64_t q_size = c.num_attention_heads * c.head_dim, kv_size = c.num_key_value_heads * c.head_dim;
  TensorId h = net.embedding("embed_tokens", in.input_ids, c.vocab_size, c.hidden_size);
  const auto table = ops::rope_table(b, "rotary_emb", in.position_ids, c.inverse_frequency,
                                     c.rope_attention_scaling, net.options().compute);
  // h is the residual stream; the output of each branch is added to it by the next norm.
  TensorId branch = kNone;
  const auto normed = [&](const std::string& name) {
    const TensorId weight = net.vector(name + ".weight", c.hidden_size, Init::ones);
    if (branch == kNone) return ops::rms_norm(b, name, h, weight, c.rms_norm_eps);
    const auto out = ops::residual_rms_norm(b, name, h, branch, weight, c.rms_norm_eps);
    h = out.sum;
    return out.y;
  };

  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const NameScope scope(b, "layers." + std::to_string(layer));
    TensorId x = normed("input_layernorm");
    b.mark_keep(h);
    const TensorId qkv = net.linear(
        "self_attn",
        {{"q_proj", q_size, c.qkv_bias}, {"k_proj", kv_size, c.qkv_bias}, {"v_proj", kv_size, c.qkv_bias}},
        x);
    ops::QkRopeOptions rope{.head_dim = c.head_dim, .eps = c.rms_norm_eps};
    if (c.qk_norm) {
      rope.q_norm = net.vector("self_attn.q_norm.weight", c.head_dim, Init::ones);
      rope.k_norm = net.vector("self_attn.k_norm.weight", c.head_dim, Init::ones);
    }
    const auto qk = ops::qk_norm_rope(b, "self_attn.rope", b.columns(qkv, 0, q_size),
                                      b.columns(qkv, q_size, kv_size), table, rope);
    const TensorId attended = attend(net, c, in, layer, qk, b.columns(qkv, q_size + kv_size, kv_size));
    branch = net.linear("self_attn", {{"o_proj", c.hidden_size, c.o_bias}}, attended);

    x = normed("post_attention_layernorm");
    const TensorId gate_up = net.linear(
        "mlp", {{"gate_proj", c.intermediate_size, c.mlp_bias}, {"up_proj", c.intermediate_size, c.mlp_bias}},
        x);
    branch =
        net.linear("mlp", {{"down_proj", c.hidden_size, c.mlp_bias}}, ops::swiglu(b, "mlp.act_fn", gate_up));
  }
  return normed("norm");
}

TensorId decoder_head_weight(Network& net, const DecoderConfig& c) {
  return net.matrix(c.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight", c.vocab_size,
                    c.hidden_size);
}

}  // namespace serval
