#include "export/export.h"

#include <cmath>
#include <map>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "formats/checkpoint.h"
#include "gemm/gemm.h"
#include "nn/weights.h"

namespace serval {
namespace {

struct SliceOf {
  const Parameter* parameter;
  const ParameterSlice* slice;
};
using Slices = std::map<std::string, SliceOf>;

Slices slices_of(const ParameterTable& table, Role role) {
  Slices slices;
  for (const Parameter& parameter : table.all())
    if (parameter.role == role)
      for (const ParameterSlice& slice : parameter.slices) slices[slice.name] = {&parameter, &slice};
  return slices;
}

std::vector<float> values_of(const SliceOf& s, const StateStore& states) {
  std::vector<float> values(static_cast<size_t>(s.slice->shape.elements()));
  read_slice(*s.parameter, *s.slice, states, values.data(), DType::f32);
  return values;
}

double norm_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(sum);
}

// s B A as f32 [out, in].
std::vector<float> low_rank_product(const SliceOf& a, const SliceOf& b, double scale,
                                    const StateStore& states) {
  const int64_t out = b.slice->shape[0], rank = b.slice->shape[1], in = a.slice->shape[1];
  const auto a_values = values_of(a, states), b_values = values_of(b, states);
  std::vector<float> delta(static_cast<size_t>(out * in));
  GemmArgs args{.m = out, .n = in, .k = rank};
  args.a = b_values.data(), args.a_stride = rank;
  args.b = a_values.data(), args.b_stride = in;
  args.c = delta.data(), args.c_stride = in;
  args.alpha = static_cast<float>(scale);
  gemm(args);
  return delta;
}

}  // namespace

void write_adapter(const std::string& directory, const AdapterConfig& config, const ParameterTable& table,
                   const StateStore& states) {
  SafetensorsWriter writer(join_path(directory, "adapter_model.safetensors"));
  for (const auto& [name, s] : slices_of(table, Role::adapter))
    writer.add(peft_name(name), DType::f32, s.slice->shape, [s = s, &states](void* target) {
      read_slice(*s.parameter, *s.slice, states, target, DType::f32);
    });
  writer.write();
  write_file_atomically(join_path(directory, "adapter_config.json"), config.to_json().dump(2) + "\n");
}

void write_chat_template(const std::string& directory, const std::string& source) {
  write_file_atomically(join_path(directory, "chat_template.jinja"), source);
  remove_tree(join_path(directory, "chat_template.json"));
  remove_tree(join_path(directory, "additional_chat_templates"));
  const std::string path = join_path(directory, "tokenizer_config.json");
  if (!file_exists(path)) return;
  Json config = Json::parse(read_file(path, 64 << 20), path);
  // Programs that read no chat_template.jinja must find no other.
  if (config.is_object() && config.contains("chat_template")) {
    config.set("chat_template", Json(source));
    write_file_atomically(path, config.dump(2) + "\n");
  }
}

MergeReport write_merged_checkpoint(const std::string& directory, const MergeOptions& options,
                                    const ParameterTable& table, const StateStore& states) {
  const Slices weights = slices_of(table, Role::weight), adapters = slices_of(table, Role::adapter);
  MergeReport report;
  std::vector<CheckpointTensor> tensors;
  for (const auto& [name, s] : weights) {
    const std::string module = name.ends_with(".weight") ? name.substr(0, name.size() - 7) : std::string();
    const auto a = adapters.find(module + ".lora_A.weight"), b = adapters.find(module + ".lora_B.weight");
    const auto lora =
        options.adapter != nullptr && !module.empty() ? options.adapter->match(module) : std::nullopt;
    if (lora && a != adapters.end() && b != adapters.end()) {
      tensors.push_back(
          {name, options.dtype, s.slice->shape, [&, s = s, a, b, module, scale = lora->scale](void* target) {
             std::vector<float> sum = values_of(s, states);
             const std::vector<float> delta = low_rank_product(a->second, b->second, scale, states);
             for (size_t i = 0; i < sum.size(); ++i) sum[i] += delta[i];
             const int64_t count = s.slice->shape.elements();
             convert_elements(sum.data(), DType::f32, target, options.dtype, count);
             std::vector<float> lost(sum.size());
             convert_elements(target, options.dtype, lost.data(), DType::f32, count);
             for (size_t i = 0; i < sum.size(); ++i) lost[i] -= sum[i];
             const double size = norm_of(delta), share = size > 0 ? norm_of(lost) / size : 0;
             ++report.merged_modules;
             if (share > report.worst) report.worst = share, report.worst_module = module;
           }});
    } else {
      tensors.push_back({name, options.dtype, s.slice->shape, [&, s = s](void* target) {
                           read_slice(*s.parameter, *s.slice, states, target, options.dtype);
                         }});
    }
  }
  write_checkpoint(directory, std::move(tensors));
  Json config = options.config_json;
  const char* key = config.contains("torch_dtype") ? "torch_dtype" : "dtype";
  config.set(key, Json(options.dtype == DType::bf16  ? "bfloat16"
                       : options.dtype == DType::f16 ? "float16"
                                                     : "float32"));
  write_file_atomically(join_path(directory, "config.json"), config.dump(2) + "\n");
  copy_model_files(options.tokenizer, directory);
  if (!options.chat_template.empty()) write_chat_template(directory, options.chat_template);
  return report;
}

}  // namespace serval
