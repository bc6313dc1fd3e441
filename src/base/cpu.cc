#include "base/cpu.h"

#include <cpuid.h>
#include <sched.h>

#include <atomic>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

CpuIsa detect_isa() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CpuIsa::generic;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!avx512) return CpuIsa::avx2;
  return __builtin_cpu_supports("avx512bf16") ? CpuIsa::avx512_bf16 : CpuIsa::avx512;
}

// The compiler's own check does not know AMX everywhere, so the processor and the system are asked directly.
bool detect_amx_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (1u << 27)) == 0) return false;  // the system saves no state
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool instructions = (d & (1u << 22)) != 0 && (d & (1u << 24)) != 0;  // amx-bf16 and amx-tile
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const unsigned tile_state = 3u << 17;
  return instructions && (low & tile_state) == tile_state;
}

std::atomic<CpuIsa>& chosen_isa() {
  static std::atomic<CpuIsa> isa{best_cpu_isa()};
  return isa;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

const char* name_of(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::generic:
      return "generic";
    case CpuIsa::avx2:
      return "avx2";
    case CpuIsa::avx512:
      return "avx512";
    case CpuIsa::avx512_bf16:
      return "avx512_bf16";
  }
  return "?";
}

CpuIsa best_cpu_isa() {
  static const CpuIsa isa = detect_isa();
  return isa;
}

CpuIsa cpu_isa() {
  return chosen_isa().load(std::memory_order_relaxed);
}

void set_cpu_isa(CpuIsa isa) {
  SERVAL_CHECK(isa <= best_cpu_isa(), "this processor has no {}", name_of(isa));
  chosen_isa() = isa;
}

std::vector<CpuIsa> usable_cpu_isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : {CpuIsa::generic, CpuIsa::avx2, CpuIsa::avx512, CpuIsa::avx512_bf16})
    if (isa <= best_cpu_isa()) isas.push_back(isa);
  return isas;
}

CpuFeatures cpu_features() {
  static const CpuFeatures features = [] {
    __builtin_cpu_init();
    return CpuFeatures{.avx512_vnni = __builtin_cpu_supports("avx512vnni") != 0,
                       .amx_bf16 = detect_amx_bf16()};
  }();
  return features;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (starts_with(line, "model name") && colon != std::string::npos)
      return std::string(trim(std::string_view(line).substr(colon + 1)));
  }
  return "unknown processor";
}

int physical_cores() {
  static const int count = [] {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      const std::string siblings =
          first_line(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
      cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
    }
    return cores.empty() ? 1 : static_cast<int>(cores.size());
  }();
  return count;
}

std::string cpu_text() {
  const CpuFeatures features = cpu_features();
  std::string text = fmt::format("{}, {} cores, {}", cpu_model(), physical_cores(), name_of(cpu_isa()));
  if (features.avx512_vnni) text += " +vnni";
  if (features.amx_bf16) text += " +amx_bf16";
  if (cpu_isa() != best_cpu_isa()) text += fmt::format(" (the processor has {})", name_of(best_cpu_isa()));
  return text;
}

}  // namespace serval
