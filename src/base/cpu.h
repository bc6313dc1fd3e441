// What the processor can do, found at run time. Kernels exist once per instruction set in the same binary and
// are chosen by cpu_isa(); `generic` is plain code that every x86-64 processor runs.
//
//   switch (cpu_isa()) { case CpuIsa::avx512_bf16: return avx512_bf16::kernel(args); ... }
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace serval {

enum class CpuIsa : uint8_t { generic, avx2, avx512, avx512_bf16 };  // each includes those before it

const char* name_of(CpuIsa isa);
CpuIsa best_cpu_isa();                  // of this processor
CpuIsa cpu_isa();                       // what kernels use: the best one unless overridden
void set_cpu_isa(CpuIsa isa);           // for tests; at most best_cpu_isa()
std::vector<CpuIsa> usable_cpu_isas();  // generic ... best_cpu_isa()

struct CpuFeatures {
  bool avx512_vnni = false;
  bool amx_bf16 = false;  // oneDNN uses the matrix unit by itself where the system allows it
};
CpuFeatures cpu_features();

std::string cpu_model();
int physical_cores();    // those that this process may run on; hyper-threads count once
std::string cpu_text();  // "AMD EPYC, 2 cores, avx512_bf16 +vnni"

}  // namespace serval
