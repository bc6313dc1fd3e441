// A Hugging Face model directory: model.safetensors, or shards with model.safetensors.index.json.
//
//   Checkpoint checkpoint = Checkpoint::open("model");
//   checkpoint.read("model.norm.weight", target, DType::bf16);
//
// Pickled weights (.bin, .pt, .pth) are refused with the way to convert them, a GGUF as not yet readable.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"
#include "formats/model_source.h"
#include "formats/safetensors.h"

namespace serval {

class Checkpoint {
 public:
  static Checkpoint open(const std::string& directory);
  const std::string& directory() const { return directory_; }
  const SafetensorsEntry* find(std::string_view name) const;  // nullptr where there is none
  std::vector<const SafetensorsEntry*> entries() const;       // by name
  int64_t data_bytes() const;
  // Elements [first, first + count) of a tensor, dense, converted.
  void read(std::string_view name, int64_t first, int64_t count, void* target, DType dtype) const;
  // All of a tensor.
  void read(std::string_view name, void* target, DType dtype) const;
  std::vector<std::string> files() const;
  const std::string& file_of(std::string_view name) const;

 private:
  void open_shards(const std::string& index_path);
  std::string directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, size_t, std::less<>> file_of_;  // tensor -> file
};

struct CheckpointTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  SafetensorsWriter::FillRows fill;
};

// Writes model.safetensors, or shards of at most `max_shard_bytes` and their index, as huggingface_hub cuts
// them.
void write_checkpoint(const std::string& directory, std::vector<CheckpointTensor> tensors,
                      int64_t max_shard_bytes = 5'000'000'000);

// Tokenizer, chat template and generation settings, byte for byte; what is absent is left out. `from` is a
// directory, or one file of a tokenizer: then that file and the settings beside it. A GGUF is not copied.
void copy_model_files(const std::string& from, const std::string& to);

// Whether a file of a model's directory has a part in its tokenizer or its chat template.
bool is_tokenizer_file(const std::string& name);

// Of those, one that holds the vocabulary itself: no settings and no template.
bool is_vocabulary_file(const std::string& name);

// `path` where it is a directory, else the one that the file lies in.
std::string directory_of_model(const std::string& path);

}  // namespace serval
