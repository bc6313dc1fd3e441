// Which file of a model's directory the tokenizer is read from.
#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer.h"
#include "text/tokenizer/parts.h"

namespace serval {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 29;

}  // namespace

Tokenizer Tokenizer::from_directory(const std::string& directory) {
  const std::string path = join_path(directory, "tokenizer.json");
  if (!file_exists(path))
    fail(
        "{}: no tokenizer.json here; other tokenizer files are not supported, convert them with Hugging Face "
        "transformers (save_pretrained)",
        directory);
  const std::string config_path = join_path(directory, "tokenizer_config.json");
  const Json config =
      file_exists(config_path) ? Json::parse(read_file(config_path, 64 << 20), config_path) : Json::object();
  if (!config.is_object()) fail("{}: expected an object, found a {}", config_path, config.type_name());
  return from_json(read_file(path, kMaxFileBytes), config, path);
}

}  // namespace serval
