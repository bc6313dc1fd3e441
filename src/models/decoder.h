// The decoder of Llama, Mistral, Qwen2 and Qwen3: one network with options (see decoder_config.h). Forward
// only; reads like the papers.
//
//   DecoderInputs in{input_ids, position_ids, cu_seqlens};
//   TensorId hidden = decoder_forward(net, config, in);       // [T, hidden_size], after the last norm
//   TensorId head = decoder_head_weight(net, config);         // [vocab_size, hidden_size]
#pragma once
#include "models/decoder_config.h"
#include "nn/network.h"

namespace serval {

struct DecoderInputs {
  TensorId input_ids = kNone;     // i32[T]
  TensorId position_ids = kNone;  // i32[T]
  TensorId cu_seqlens = kNone;    // i32[documents + 1]
  int64_t longest_document = 0;   // tokens, at most; 0: not known
  // Generation: tokens are appended to the caches of their sequences.
  TensorId past_lengths = kNone;  // i32[sequences]; kNone: training or evaluation, no cache
  int64_t sequences = 0, cache_capacity = 0;
};

TensorId decoder_forward(Network& net, const DecoderConfig& config, const DecoderInputs& inputs);
TensorId decoder_head_weight(Network& net, const DecoderConfig& config);

}  // namespace serval
