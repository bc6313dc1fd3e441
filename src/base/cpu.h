// What the processor can do, found at run time. Kernels exist once per instruction set in the same binary and
// are chosen by cpu_isa(); `generic` is plain code that every x86-64 processor runs.
//
//   switch (cpu_isa()) { case CpuIsa::avx512_bf16: return avx512_bf16::kernel(args); ... }
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace serval {

// Each includes those before it; `amx` is the matrix unit for bf16, which the system must also allow.
enum class CpuIsa : uint8_t { generic, avx2, avx512, avx512_bf16, amx };

const char* name_of(CpuIsa isa);
CpuIsa best_cpu_isa();                  // of this processor
CpuIsa cpu_isa();                       // what kernels use: the best one unless overridden
std::vector<CpuIsa> usable_cpu_isas();  // generic ... best_cpu_isa()

// For tests. Processors with avx512_bf16 but no matrix unit run `amx` too: its instructions are emulated
// then, slowly.
void set_cpu_isa(CpuIsa isa);
std::vector<CpuIsa> testable_cpu_isas();
bool amx_is_emulated();

bool has_avx512_vnni();

std::string cpu_model();
int physical_cores();    // those that this process may run on; hyper-threads count once
std::string cpu_text();  // "AMD EPYC, 2 cores, avx512_bf16 +vnni"

}  // namespace serval
