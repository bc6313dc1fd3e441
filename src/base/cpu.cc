#include "base/cpu.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

// The compiler's own check does not know AMX everywhere, so the processor and the system are asked directly.
bool detect_amx_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (1u << 27)) == 0) return false;  // the system saves no state
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool instructions = (d & (1u << 22)) != 0 && (d & (1u << 24)) != 0;  // amx-bf16 and amx-tile
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const unsigned tile_state = 3u << 17;
  if (!instructions || (low & tile_state) != tile_state) return false;
  // Linux saves the tiles only for a process that asked for it (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

CpuIsa detect_isa() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CpuIsa::generic;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!avx512) return CpuIsa::avx2;
  if (!__builtin_cpu_supports("avx512bf16")) return CpuIsa::avx512;
  return detect_amx_bf16() ? CpuIsa::amx : CpuIsa::avx512_bf16;
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
    case CpuIsa::amx:
      return "amx";
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
  const std::vector<CpuIsa> isas = testable_cpu_isas();
  SERVAL_CHECK(std::find(isas.begin(), isas.end(), isa) != isas.end(), "this processor has no {}",
               name_of(isa));
  chosen_isa() = isa;
}

std::vector<CpuIsa> usable_cpu_isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : {CpuIsa::generic, CpuIsa::avx2, CpuIsa::avx512, CpuIsa::avx512_bf16, CpuIsa::amx})
    if (isa <= best_cpu_isa()) isas.push_back(isa);
  return isas;
}

std::vector<CpuIsa> testable_cpu_isas() {
  std::vector<CpuIsa> isas = usable_cpu_isas();
  if (isas.back() == CpuIsa::avx512_bf16) isas.push_back(CpuIsa::amx);
  return isas;
}

bool amx_is_emulated() {
  return best_cpu_isa() < CpuIsa::amx;
}

bool has_avx512_vnni() {
  static const bool has = [] {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vnni") != 0;
  }();
  return has;
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
  std::string text = fmt::format("{}, {} cores, {}", cpu_model(), physical_cores(), name_of(cpu_isa()));
  if (has_avx512_vnni()) text += " +vnni";
  if (cpu_isa() != best_cpu_isa()) text += fmt::format(" (the processor has {})", name_of(best_cpu_isa()));
  return text;
}

}  // namespace serval
