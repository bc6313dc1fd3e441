#include "train/device_profile.h"

#include "base/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/text.h"
#include "gemm/gemm.h"
#include "tensor/described_device.h"
#include "train/bench.h"

namespace serval {
namespace {

// Measured by `serval bench gemm|copy` and `serval bench --shape qwen3-8b`; see docs/performance.md.
struct BuiltIn {
  const char* name;
  const char* json;
};
constexpr BuiltIn kBuiltIn[] = {
    {"h200", R"({"name": "NVIDIA H200", "kind": "cuda", "memory_bytes": 150109978624,
      "product_flops_per_second": 6.97e14, "copy_bytes_per_second": 4.08e12, "efficiency": 0.81})"},
};

DeviceProfile parse_profile(const Json& json, const std::string& where) {
  DeviceProfile profile;
  try {
    profile.name = json.at("name").as_string();
    profile.product_rate = json.at("product_flops_per_second").as_double();
    if (const Json* efficiency = json.find("efficiency")) profile.efficiency = efficiency->as_double();
    if (const Json* kind = json.find("kind")) {
      if (*kind != Json("cuda") && *kind != Json("cpu")) fail("kind is none of cuda and cpu");
      profile.kind = *kind == Json("cuda") ? DeviceKind::cuda : DeviceKind::cpu;
      profile.memory_bytes = json.at("memory_bytes").as_int();
    }
  } catch (const UserError& error) {
    fail(
        "{}: {}; expected {{\"name\", \"product_flops_per_second\"}}, and perhaps \"efficiency\", or "
        "\"kind\" "
        "with \"memory_bytes\"",
        where, error.what());
  }
  if (!(profile.product_rate > 0 && profile.efficiency > 0)) fail("{}: the rates must be positive", where);
  if (profile.kind && profile.memory_bytes <= 0) fail("{}: memory_bytes must be positive", where);
  return profile;
}

}  // namespace

std::vector<std::string> built_in_profiles() {
  std::vector<std::string> names;
  for (const BuiltIn& profile : kBuiltIn) names.emplace_back(profile.name);
  return names;
}

DeviceProfile read_device_profile(const std::string& name_or_path) {
  for (const BuiltIn& profile : kBuiltIn)
    if (name_or_path == profile.name)
      return parse_profile(Json::parse(profile.json, profile.name), profile.name);
  if (!file_exists(name_or_path))
    fail(
        "profile {}: no such file, and no built-in profile: there {} {}; serval bench gemm --profile FILE "
        "writes one of the device it runs on",
        in_quotes(name_or_path), std::size(kBuiltIn) == 1 ? "is" : "are", join(built_in_profiles(), ", "));
  return parse_profile(Json::parse(read_file(name_or_path, 1 << 20), name_or_path), name_or_path);
}

std::unique_ptr<Device> device_of_profile(const DeviceProfile& profile) {
  if (profile.kind != DeviceKind::cuda) return nullptr;
  return make_described_device({DeviceKind::cuda, profile.name, profile.memory_bytes});
}

DeviceProfile measure_device_profile(Device& device, DType compute) {
  DeviceProfile profile;
  if (device.kind() == DeviceKind::cuda) {
    profile.name = device.name() + ", measured now";
    profile.product_rate = device_product_rate(device, compute);
  } else {
    profile.name = fmt::format("{} with {} threads, measured now", cpu_model(), num_threads());
    profile.product_rate = measured_product_rate(compute);
  }
  return profile;
}

}  // namespace serval
