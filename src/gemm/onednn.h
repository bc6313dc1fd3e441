// Products by oneDNN. Its primitives are kept in a bounded cache; its scratch memory is ours and reused.
#pragma once
#include <string>

#include "gemm/gemm.h"

namespace serval {

// False, with C untouched, where oneDNN has no optimised implementation for these arguments.
bool gemm_onednn(const GemmArgs& args);

std::string onednn_version();  // "oneDNN 2.6.3"
// The implementation that oneDNN would use, or "" where it has no optimised one.
std::string onednn_implementation(const GemmArgs& args);

}  // namespace serval
