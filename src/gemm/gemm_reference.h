// Products by plain loops, for f64 and for what no faster code takes.
#pragma once
#include "gemm/gemm.h"

namespace serval {

void gemm_reference(const GemmArgs& args);

}  // namespace serval
