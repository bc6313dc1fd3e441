// AdamW whose moments are 8-bit numbers in blocks, as bitsandbytes' AdamW8bit keeps them (Dettmers et al.,
// "8-bit Optimizers via Block-wise Quantization", ICLR 2022):
//   a block is 256 elements in order; m = signed_map[m_codes] * m_absmax[block], v = unsigned_map[v_codes] *
//   v_absmax[block]; with these the step of ops/adamw; then absmax = the block's largest |m| (|v|), and each
//   code is the one whose value is nearest to m / absmax (v / absmax). The parameter is updated from m and v
//   before they are rounded. Blocks with an absmax below 1e-37 are kept as zeros.
// One call takes all tensors that share their settings. The parameter is f32 or bf16, and its rows may be
// apart; a bf16 parameter is rounded to nearest, or stochastically with `random` (see ops/adamw). The
// gradient is f32 and becomes zero. Codes are u8 [elements rounded up to 256], an absmax f32 [blocks].
#pragma once
#include <string>
#include <vector>

#include "ops/adamw/adamw.h"

namespace serval::ops {

extern const Op adamw_8bit_op;

constexpr int64_t kMomentBlock = 256;
constexpr int64_t moment_blocks(int64_t elements) {
  return (elements + kMomentBlock - 1) / kMomentBlock;
}

struct AdamW8bitOperands {
  TensorId parameter = kNone, m_codes = kNone, m_absmax = kNone, v_codes = kNone, v_absmax = kNone,
           gradient = kNone;
  uint64_t stream = 0;  // of its random numbers: stable_hash(name)
};
void adamw_8bit(ProgramBuilder& b, const std::string& name, const std::vector<AdamW8bitOperands>& tensors,
                TensorId hyper, TensorId stats, const AdamWSettings& settings, TensorId random = kNone);

}  // namespace serval::ops
