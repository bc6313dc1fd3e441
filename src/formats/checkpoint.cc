#include "formats/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"

namespace serval {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// Why a directory without safetensors cannot be read.
[[noreturn]] void refuse_directory(const std::string& directory) {
  for (const std::string& name : list_directory(directory)) {
    if (name.ends_with(".gguf")) refuse_gguf(join_path(directory, name));
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth"))
      fail(
          "{}: holds pickled weights, which can run code and are not read; convert them: load the model with "
          "transformers "
          "and save_pretrained(..., safe_serialization=True)",
          join_path(directory, name));
  }
  fail("{}: neither {} nor {} is there; expected a Hugging Face model directory", directory, kSingle, kIndex);
}

}  // namespace

bool is_gguf(const std::string& path) {
  char magic[4] = {};
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  const size_t got = std::fread(magic, 1, 4, file);
  std::fclose(file);
  return got == 4 && std::string_view(magic, 4) == "GGUF";
}

void refuse_gguf(const std::string& path) {
  fail("{}: a GGUF cannot be read yet; use the Hugging Face checkpoint (safetensors) of this model", path);
}

Checkpoint Checkpoint::open(const std::string& directory) {
  if (file_exists(directory)) {
    if (is_gguf(directory)) refuse_gguf(directory);
    fail("{}: is a file; expected the directory of a Hugging Face model", directory);
  }
  if (!directory_exists(directory)) fail("{}: no such directory", directory);
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const std::string single = join_path(directory, kSingle), index_path = join_path(directory, kIndex);
  if (file_exists(single)) {
    checkpoint.files_.push_back(std::make_unique<SafetensorsFile>(single));
    for (const auto& entry : checkpoint.files_[0]->entries()) checkpoint.file_of_.emplace(entry.name, 0);
    return checkpoint;
  }
  if (!file_exists(index_path)) refuse_directory(directory);
  const Json index = Json::parse(read_file(index_path, 64 << 20), index_path);
  const Json* weight_map = index.find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object())
    fail("{}: the key 'weight_map' is missing or no object", index_path);
  std::map<std::string, size_t> files;
  for (const auto& [tensor, value] : weight_map->as_object()) {
    if (!value.is_string()) fail("{}: the file of tensor '{}' is no name", index_path, tensor);
    const std::string& name = value.as_string();
    auto it = files.find(name);
    if (it == files.end()) {
      it = files.emplace(name, checkpoint.files_.size()).first;
      checkpoint.files_.push_back(std::make_unique<SafetensorsFile>(safe_join(directory, name, index_path)));
    }
    if (checkpoint.files_[it->second]->find(tensor) == nullptr)
      fail("{}: tensor '{}' should be in {}, which does not hold it", index_path, tensor, name);
    checkpoint.file_of_.emplace(tensor, it->second);
  }
  for (const auto& [name, at] : files)
    for (const auto& entry : checkpoint.files_[at]->entries())
      if (const auto it = checkpoint.file_of_.find(entry.name);
          it == checkpoint.file_of_.end() || it->second != at)
        fail("{}: {} holds the tensor '{}', which the index does not place there", index_path, name,
             entry.name);
  return checkpoint;
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

void Checkpoint::read(std::string_view name, void* target, DType dtype) const {
  const auto it = file_of_.find(name);
  if (it == file_of_.end()) fail("{}: the tensor '{}' is missing", directory_, name);
  const SafetensorsFile& file = *files_[it->second];
  file.read(*file.find(name), target, dtype);
}

void write_checkpoint(const std::string& directory, std::vector<CheckpointTensor> tensors,
                      int64_t max_shard_bytes) {
  make_directories(directory);
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  std::vector<std::vector<CheckpointTensor*>> shards(1);
  int64_t in_shard = 0, total = 0;
  for (auto& tensor : tensors) {
    const int64_t bytes = tensor.shape.elements() * size_of(tensor.dtype);
    total += bytes;
    if (!shards.back().empty() && in_shard + bytes > max_shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(&tensor);
    in_shard += bytes;
  }
  Json weight_map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        shards.size() == 1 ? kSingle : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    SafetensorsWriter writer(join_path(directory, name));
    for (CheckpointTensor* tensor : shards[i]) {
      writer.add(tensor->name, tensor->dtype, tensor->shape, tensor->fill);
      if (shards.size() > 1) weight_map.as_object().emplace_back(tensor->name, Json(name));
    }
    writer.write();
  }
  if (shards.size() == 1) return;
  Json metadata = Json::object();
  metadata.set("total_size", Json(total));
  Json index = Json::object();
  index.set("metadata", std::move(metadata));
  index.set("weight_map", std::move(weight_map));
  write_file_atomically(join_path(directory, kIndex), index.dump(2) + "\n");
}

void copy_model_files(const std::string& from, const std::string& to) {
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
        "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "generation_config.json"}) {
    const std::string path = join_path(from, name);
    if (file_exists(path)) write_file_atomically(join_path(to, name), read_file(path));
  }
}

namespace {

std::string cache_directory() {
  if (const char* cache = std::getenv("HF_HUB_CACHE"); cache != nullptr && *cache != '\0') return cache;
  if (const char* home = std::getenv("HF_HOME"); home != nullptr && *home != '\0')
    return join_path(home, "hub");
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != '\0')
    return join_path(xdg, "huggingface/hub");
  const char* home = std::getenv("HOME");
  return join_path(home != nullptr ? home : ".", ".cache/huggingface/hub");
}

bool is_repository_name(const std::string& name) {
  const auto parts = split(name.substr(0, name.find('@')), '/');
  if (parts.size() != 2) return false;
  for (const auto& part : parts) {
    if (part.empty() || part == "." || part == ".." || part[0] == '~') return false;
    for (const char c : part)
      if (!(std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.')) return false;
  }
  return true;
}

}  // namespace

std::string resolve_model(const std::string& name_or_path) {
  if (directory_exists(name_or_path) || file_exists(name_or_path)) return name_or_path;
  if (!is_repository_name(name_or_path))
    fail("{}: no such directory; expected a Hugging Face model directory or org/name from the local cache",
         name_or_path);
  const size_t at = name_or_path.find('@');
  const std::string name = name_or_path.substr(0, at),
                    revision = at == std::string::npos ? "main" : name_or_path.substr(at + 1);
  const std::string repository = join_path(cache_directory(), "models--" + replace_all(name, "/", "--"));
  std::string commit = revision;
  const std::string reference = safe_join(join_path(repository, "refs"), revision, "revision");
  if (file_exists(reference)) commit = std::string(trim(read_file(reference, 4096)));
  const std::string snapshot = safe_join(join_path(repository, "snapshots"), commit, reference);
  if (directory_exists(snapshot)) return snapshot;
  fail("{}: neither a directory here nor in the Hugging Face cache ({}); get it with: hf download {}{}",
       name_or_path, cache_directory(), name, at == std::string::npos ? "" : " --revision " + revision);
}

}  // namespace serval
