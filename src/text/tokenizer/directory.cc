// Which file of a model's directory the tokenizer is read from.
#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer.h"
#include "text/tokenizer/parts.h"

namespace serval {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 29;

Tokenizer read_tokenizer_json(const std::string& path, const std::string& directory) {
  const std::string config_path = join_path(directory, "tokenizer_config.json");
  const Json config =
      file_exists(config_path) ? Json::parse(read_file(config_path, 64 << 20), config_path) : Json::object();
  if (!config.is_object()) fail("{}: expected an object, found a {}", config_path, config.type_name());
  return Tokenizer::from_json(read_file(path, kMaxFileBytes), config, path);
}

}  // namespace

Tokenizer Tokenizer::from_directory(const std::string& directory) {
  const std::string path = join_path(directory, "tokenizer.json");
  if (!file_exists(path))
    fail(
        "{}: no tokenizer.json here; other tokenizer files are not supported, convert them with Hugging Face "
        "transformers (save_pretrained)",
        directory);
  return read_tokenizer_json(path, directory);
}

Tokenizer Tokenizer::from_path(const std::string& path) {
  if (directory_exists(path)) return from_directory(path);
  if (!file_exists(path)) fail("{}: no such file or directory", path);
  const std::string name = base_name(path);
  return read_tokenizer_json(path,
                             name.size() == path.size() ? "." : path.substr(0, path.size() - name.size()));
}

}  // namespace serval
