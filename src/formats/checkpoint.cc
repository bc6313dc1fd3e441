#include "formats/checkpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "formats/gguf.h"

namespace serval {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

[[noreturn]] void refuse_pickle(const std::string& path) {
  fail(
      "{}: holds pickled weights, which can run code and are not read; convert them once: load the model "
      "with transformers and call save_pretrained(..., safe_serialization=True)",
      path);
}

bool is_pickle_name(const std::string& name) {
  return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") || name.ends_with(".ckpt");
}

[[noreturn]] void refuse_file(const std::string& path) {
  if (is_gguf(path)) refuse_gguf(path);
  if (is_pickle_name(path)) refuse_pickle(path);
  fail("{}: is a file; expected the directory of a Hugging Face model", path);
}

// Why a directory without safetensors cannot be read.
[[noreturn]] void refuse_directory(const std::string& directory) {
  const auto names = list_directory(directory);
  for (const std::string& name : names)
    if (const std::string path = join_path(directory, name); is_gguf(path)) refuse_gguf(path);
  for (const std::string& name : names)
    if (is_pickle_name(name)) refuse_pickle(join_path(directory, name));
  if (file_exists(join_path(directory, "adapter_config.json")))
    fail("{}: is a PEFT adapter, expected a model; give its base as the model and this as the adapter",
         directory);
  fail("{}: neither {} nor {} is there; expected the directory of a Hugging Face model", directory, kSingle,
       kIndex);
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& directory) {
  if (file_exists(directory)) refuse_file(directory);
  if (!directory_exists(directory)) fail("{}: no such directory", directory);
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const std::string single = join_path(directory, kSingle), index = join_path(directory, kIndex);
  if (file_exists(single)) {
    checkpoint.files_.push_back(std::make_unique<SafetensorsFile>(single));
    for (const auto& entry : checkpoint.files_[0]->entries()) checkpoint.file_of_.emplace(entry.name, 0);
  } else if (file_exists(index)) {
    checkpoint.open_shards(index);
  } else {
    refuse_directory(directory);
  }
  return checkpoint;
}

void Checkpoint::open_shards(const std::string& index_path) {
  const Json index = Json::parse(read_file(index_path, 64 << 20), index_path);
  const Json* weight_map = index.find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object())
    fail("{}: the key 'weight_map' is missing or no object", index_path);
  std::map<std::string, size_t> opened;  // shard name -> place in files_
  for (const auto& [tensor, value] : weight_map->as_object()) {
    if (!value.is_string()) fail("{}: the file of tensor {} is no name", index_path, in_quotes(tensor));
    const std::string& name = value.as_string();
    const auto [it, is_new] = opened.emplace(name, files_.size());
    if (is_new) {
      const std::string path = safe_join(directory_, name, index_path);
      if (!file_exists(path))
        fail("{}: the shard {} of tensor {} is missing; get the whole model", index_path, in_quotes(name),
             in_quotes(tensor));
      files_.push_back(std::make_unique<SafetensorsFile>(path));
    }
    if (files_[it->second]->find(tensor) == nullptr)
      fail("{}: tensor {} should be in {}, which does not hold it", index_path, in_quotes(tensor),
           in_quotes(name));
    file_of_.emplace(tensor, it->second);
  }
  for (const auto& [name, at] : opened)
    for (const auto& entry : files_[at]->entries())
      if (const auto it = file_of_.find(entry.name); it == file_of_.end() || it->second != at)
        fail("{}: {} holds the tensor {}, which the index does not place there", index_path, in_quotes(name),
             in_quotes(entry.name));
}

const SafetensorsEntry* Checkpoint::find(std::string_view name) const {
  const auto it = file_of_.find(name);
  return it == file_of_.end() ? nullptr : files_[it->second]->find(name);
}

std::vector<const SafetensorsEntry*> Checkpoint::entries() const {
  std::vector<const SafetensorsEntry*> list;
  for (const auto& [name, file] : file_of_) list.push_back(files_[file]->find(name));
  return list;
}

int64_t Checkpoint::data_bytes() const {
  int64_t bytes = 0;
  for (const auto* entry : entries()) bytes += static_cast<int64_t>(entry->end - entry->begin);
  return bytes;
}

const std::string& Checkpoint::file_of(std::string_view name) const {
  const auto it = file_of_.find(name);
  return it == file_of_.end() ? directory_ : files_[it->second]->path();
}

std::vector<std::string> Checkpoint::files() const {
  std::vector<std::string> paths;
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

void Checkpoint::read(std::string_view name, int64_t first, int64_t count, void* target, DType dtype) const {
  const auto it = file_of_.find(name);
  if (it == file_of_.end()) fail("{}: the tensor {} is missing", directory_, in_quotes(name));
  const SafetensorsFile& file = *files_[it->second];
  file.read_elements(*file.find(name), first, count, target, dtype);
}

void Checkpoint::read(std::string_view name, void* target, DType dtype) const {
  const auto it = file_of_.find(name);
  if (it == file_of_.end()) fail("{}: the tensor {} is missing", directory_, in_quotes(name));
  const SafetensorsFile& file = *files_[it->second];
  file.read(*file.find(name), target, dtype);
}

namespace {

// Shards as huggingface_hub cuts them: in the order given; what is larger than the limit is a shard alone,
// and the shard that was being filled goes on after it.
std::vector<std::vector<CheckpointTensor*>> shards_of(std::vector<CheckpointTensor>& tensors,
                                                      int64_t max_shard_bytes) {
  std::vector<std::vector<CheckpointTensor*>> shards;
  std::vector<CheckpointTensor*> current;
  int64_t current_bytes = 0;
  for (auto& tensor : tensors) {
    const int64_t bytes = tensor.shape.elements() * size_of(tensor.dtype);
    if (bytes > max_shard_bytes) {
      shards.push_back({&tensor});
      continue;
    }
    if (!current.empty() && current_bytes + bytes > max_shard_bytes) {
      shards.push_back(std::exchange(current, {}));
      current_bytes = 0;
    }
    current.push_back(&tensor);
    current_bytes += bytes;
  }
  if (!current.empty() || shards.empty()) shards.push_back(std::move(current));
  return shards;
}

// "model-00001-of-00002.safetensors"
bool is_shard_name(const std::string& name) {
  constexpr std::string_view kShape = "model-#####-of-#####.safetensors";
  return name.size() == kShape.size() &&
         std::equal(name.begin(), name.end(), kShape.begin(),
                    [](char c, char shape) { return shape == '#' ? c >= '0' && c <= '9' : c == shape; });
}

}  // namespace

void write_checkpoint(const std::string& directory, std::vector<CheckpointTensor> tensors,
                      int64_t max_shard_bytes) {
  make_directories(directory);
  const auto shards = shards_of(tensors, max_shard_bytes);
  std::set<std::string> written;
  std::map<std::string, std::string> file_of;
  int64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        shards.size() == 1 ? kSingle : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    SafetensorsWriter writer(join_path(directory, name));
    for (CheckpointTensor* tensor : shards[i]) {
      file_of[tensor->name] = name;
      writer.add_rows(tensor->name, tensor->dtype, tensor->shape, std::move(tensor->fill));
    }
    total += writer.data_bytes();
    writer.write();
    written.insert(name);
  }
  if (shards.size() > 1) {
    Json weight_map = Json::object();
    for (const auto& [tensor, file] : file_of) weight_map.as_object().emplace_back(tensor, Json(file));
    Json metadata = Json::object();
    metadata.set("total_size", Json(total));
    Json index = Json::object();
    index.set("metadata", std::move(metadata));
    index.set("weight_map", std::move(weight_map));
    write_file_atomically(join_path(directory, kIndex), index.dump(2) + "\n");
    written.insert(kIndex);
  }
  // Weights of an earlier save would contradict these.
  for (const std::string& name : list_directory(directory))
    if ((name == kSingle || name == kIndex || is_shard_name(name)) && !written.contains(name))
      remove_tree(join_path(directory, name));
}

bool is_tokenizer_file(const std::string& name) {
  for (const char* begin : {"tokenizer.", "tokenizer_config.", "vocab.", "merges.", "special_tokens_map.",
                            "added_tokens.", "chat_template.", "tekken", "spiece.", "sentencepiece."})
    if (name.starts_with(begin) && !name.ends_with(".py")) return true;
  return name.ends_with(".jinja") || name.ends_with(".tiktoken") || name.ends_with(".model");
}

bool is_vocabulary_file(const std::string& name) {
  return is_tokenizer_file(name) && !name.ends_with(".jinja") && name != "chat_template.json" &&
         name != "tokenizer_config.json" && name != "special_tokens_map.json" && name != "added_tokens.json";
}

std::string directory_of_model(const std::string& path) {
  if (directory_exists(path)) return path;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

void copy_model_files(const std::string& from, const std::string& to) {
  const std::string directory = directory_of_model(from), chosen = directory == from ? "" : base_name(from);
  const auto copy = [&](const std::string& name, const std::string& as) {
    if (const std::string path = join_path(directory, name); file_exists(path))
      write_file_atomically(join_path(to, as), read_file(path));
  };
  for (const std::string& name : list_directory(directory)) {
    if (name != "generation_config.json" && !is_tokenizer_file(name)) continue;
    // Another vocabulary beside the chosen one would be read in its place.
    if (is_vocabulary_file(name) && !chosen.empty()) continue;
    copy(name, name);
  }
  constexpr const char* kAdditional = "additional_chat_templates";
  if (const std::string more = join_path(directory, kAdditional); directory_exists(more)) {
    make_directories(join_path(to, kAdditional));
    for (const std::string& name : list_directory(more))
      if (name.ends_with(".jinja")) copy(join_path(kAdditional, name), join_path(kAdditional, name));
  }
  if (chosen.empty() || is_gguf(from)) return;
  const bool pair = chosen == "vocab.json" || chosen == "merges.txt";
  const bool whole = chosen.ends_with(".json") && !pair && !chosen.starts_with("tekken");
  copy(chosen, whole ? "tokenizer.json" : chosen);
  if (pair)
    copy(chosen == "vocab.json" ? "merges.txt" : "vocab.json",
         chosen == "vocab.json" ? "merges.txt" : "vocab.json");
}

}  // namespace serval
