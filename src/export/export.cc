#include "export/export.h"

#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "formats/checkpoint.h"
#include "gemm/gemm.h"
#include "nn/weights.h"
#include "text/tokenizer_files.h"

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

double squares_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x) * static_cast<double>(x);
  return sum;
}

// W + sBA a few rows at a time, so that neither the sum nor its parts are ever held whole.
class MergedTensor {
 public:
  MergedTensor(SliceOf weight, SliceOf a, SliceOf b, double scale, DType dtype, const StateStore& states)
      : weight_(weight), a_(a), b_(b), scale_(scale), dtype_(dtype), states_(states) {}

  // Rows are asked for in their order.
  void rows(int64_t row_begin, int64_t row_count, void* target) {
    const int64_t rank = b_.slice->shape[1], in = a_.slice->shape[1], count = row_count * in;
    if (row_begin == 0) a_values_ = values_of(a_, states_);
    std::vector<float> b_rows(static_cast<size_t>(row_count * rank));
    read_slice_rows(*b_.parameter, *b_.slice, states_, row_begin, row_count, b_rows.data(), DType::f32);
    std::vector<float> delta(static_cast<size_t>(count)), sum(delta.size());
    GemmArgs args{.m = row_count, .n = in, .k = rank};
    args.a = b_rows.data(), args.a_stride = rank;
    args.b = a_values_.data(), args.b_stride = in;
    args.c = delta.data(), args.c_stride = in;
    args.alpha = static_cast<float>(scale_);
    gemm(args);
    read_slice_rows(*weight_.parameter, *weight_.slice, states_, row_begin, row_count, sum.data(),
                    DType::f32);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += delta[i];
    convert_elements(sum.data(), DType::f32, target, dtype_, count);
    wanted_ += squares_of(delta);
    convert_elements(target, dtype_, delta.data(), DType::f32, count);
    for (size_t i = 0; i < sum.size(); ++i) delta[i] -= sum[i];
    lost_ += squares_of(delta);
    if (row_begin + row_count == weight_.slice->shape.rows()) a_values_ = {};
  }

  double lost_share() const { return wanted_ > 0 ? std::sqrt(lost_ / wanted_) : 0; }

 private:
  SliceOf weight_, a_, b_;
  double scale_;
  DType dtype_;
  const StateStore& states_;
  std::vector<float> a_values_;
  double wanted_ = 0, lost_ = 0;  // squares of sBA, and of what rounding takes from the sum
};

}  // namespace

void write_adapter(const std::string& directory, const AdapterConfig& config, const ParameterTable& table,
                   const StateStore& states, const SavedWeights& saved) {
  SafetensorsWriter writer(join_path(directory, "adapter_model.safetensors"));
  for (const auto& [name, s] : slices_of(table, Role::adapter))
    writer.add(peft_name(name), DType::f32, s.slice->shape, [s = s, &states](void* target) {
      read_slice(*s.parameter, *s.slice, states, target, DType::f32);
    });
  for (const auto& [name, s] : slices_of(table, Role::weight)) {
    if (!saved.names.contains(name)) continue;
    const DType dtype = s.slice->trained ? DType::f32 : saved.stored;
    const auto add = [&](const std::string& as) {
      writer.add_rows(peft_name(as), dtype, s.slice->shape,
                      [s = s, dtype, &states](int64_t row, int64_t rows, void* target) {
                        read_slice_rows(*s.parameter, *s.slice, states, row, rows, target, dtype);
                      });
    };
    add(name);
    if (saved.tied_head && name == "model.embed_tokens.weight") add("lm_head.weight");
  }
  writer.write();
  write_file_atomically(join_path(directory, "adapter_config.json"), config.to_json().dump(2) + "\n");
}

void write_changed_tokenizer(const std::string& directory, const Tokenizer& tokenizer) {
  if (!needs_writing(tokenizer)) return;
  // Another vocabulary in the directory would contradict this one.
  if (was_changed(tokenizer))
    for (const std::string& name : list_directory(directory))
      if (is_vocabulary_file(name)) remove_tree(join_path(directory, name));
  write_tokenizer(tokenizer, directory);
}

namespace {

// As transformers' Trainer aligns them: a new eos stands before those that ended a text already.
void name_generation_tokens(const std::string& directory,
                            const std::vector<std::pair<std::string, int32_t>>& ids) {
  const std::string path = join_path(directory, "generation_config.json");
  if (ids.empty() || !file_exists(path)) return;
  Json config = Json::parse(read_file(path, 16 << 20), path);
  for (const auto& [key, id] : ids) {
    const Json now(static_cast<int64_t>(id));
    const Json* old = config.find(key);
    if (key != "eos_token_id" || old == nullptr || old->is_null() || *old == now) {
      config.set(key, now);
      continue;
    }
    Json list = Json::array();
    list.push_back(now);
    for (const Json& one : old->is_array() ? old->as_array() : Json::Array{*old})
      if (one != now) list.push_back(one);
    config.set(key, std::move(list));
  }
  write_file_atomically(path, config.dump(2) + "\n");
}

}  // namespace

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

MergeReport write_merged_checkpoint(const std::string& directory, const MergedCheckpointOptions& options,
                                    const ParameterTable& table, const StateStore& states) {
  const Slices weights = slices_of(table, Role::weight), adapters = slices_of(table, Role::adapter);
  std::vector<CheckpointTensor> tensors;
  std::map<std::string, MergedTensor> merged;  // by module
  for (const auto& [name, s] : weights) {
    const std::string module = name.ends_with(".weight") ? name.substr(0, name.size() - 7) : std::string();
    const auto a = adapters.find(module + ".lora_A.weight"), b = adapters.find(module + ".lora_B.weight");
    const auto lora =
        options.adapter != nullptr && !module.empty() ? options.adapter->match(module) : std::nullopt;
    SafetensorsWriter::FillRows fill;
    if (lora && a != adapters.end() && b != adapters.end()) {
      MergedTensor& sum =
          merged.try_emplace(module, s, a->second, b->second, lora->scale, options.dtype, states)
              .first->second;
      fill = [&sum](int64_t row, int64_t rows, void* target) { sum.rows(row, rows, target); };
    } else {
      fill = [&, s = s](int64_t row, int64_t rows, void* target) {
        read_slice_rows(*s.parameter, *s.slice, states, row, rows, target, options.dtype);
      };
    }
    tensors.push_back({name, options.dtype, s.slice->shape, std::move(fill)});
  }
  write_checkpoint(directory, std::move(tensors));
  MergeReport report;
  report.merged_modules = static_cast<int64_t>(merged.size());
  for (const auto& [module, sum] : merged)
    if (sum.lost_share() > report.worst) report.worst = sum.lost_share(), report.worst_module = module;
  Json config = options.config_json;
  const char* key = config.contains("torch_dtype") ? "torch_dtype" : "dtype";
  config.set(key, Json(options.dtype == DType::bf16  ? "bfloat16"
                       : options.dtype == DType::f16 ? "float16"
                                                     : "float32"));
  write_file_atomically(join_path(directory, "config.json"), config.dump(2) + "\n");
  copy_model_files(options.tokenizer, directory);
  if (options.changed_tokenizer != nullptr) write_changed_tokenizer(directory, *options.changed_tokenizer);
  name_generation_tokens(directory, options.token_ids);
  if (!options.chat_template.empty()) write_chat_template(directory, options.chat_template);
  return report;
}

}  // namespace serval
