#include "base/cpu.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/cli.h"
#include "gemm/gemm.h"
#include "ops/all.h"
#include "tensor/device.h"

namespace serval {

int run_info(const Arguments& arguments) {
  const auto device = make_cpu_device();
  std::string isas;
  for (const CpuIsa isa : usable_cpu_isas()) isas += (isas.empty() ? "" : ", ") + std::string(name_of(isa));
  if (arguments.settings.flag("json")) {
    Json json = Json::object();
    json.set("version", Json(kVersion));
    json.set("processor", Json(cpu_model()));
    json.set("threads", Json(static_cast<int64_t>(num_threads())));
    json.set("instruction_set", Json(name_of(cpu_isa())));
    json.set("amx_bf16", Json(best_cpu_isa() == CpuIsa::amx));
    json.set("products", Json(gemm_info()));
    json.set("memory_bytes", Json(device->total_memory()));
    json.set("free_memory_bytes", Json(device->free_memory()));
    json.set("cuda", Json(join(describe_cuda(), "; ")));
    json.set("ops", Json(static_cast<int64_t>(all_ops().size())));
    print_result(json.dump(2) + "\n");
    return 0;
  }
  print_result(
      fmt::format("serval {}\nprocessor  {}\nkernels    {} (this binary and processor: {})\nproducts   {}\n"
                  "threads    {}\nmemory     {}, {} free\nCUDA       {}\n",
                  kVersion, cpu_text(), name_of(cpu_isa()), isas, gemm_info(), num_threads(),
                  human_bytes(device->total_memory()), human_bytes(device->free_memory()),
                  join(describe_cuda(), "\n           ")));
  return 0;
}

}  // namespace serval
