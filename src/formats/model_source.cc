#include "formats/model_source.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace serval {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string cache_directory() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string cache = environment(name); !cache.empty()) return cache;
  if (const std::string home = environment("HF_HOME"); !home.empty()) return join_path(home, "hub");
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty())
    return join_path(xdg, "huggingface/hub");
  const std::string home = environment("HOME");
  return join_path(home.empty() ? "." : home, ".cache/huggingface/hub");
}

// "org/name", or "name" for the few models of old that have no owner.
bool is_repository_name(const std::string& name) {
  const auto parts = split(name, '/');
  if (parts.size() > 2) return false;
  return std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    if (part.empty() || part[0] == '.' || part.find("--") != std::string::npos) return false;
    return std::all_of(part.begin(), part.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
             c == '_' || c == '.';
    });
  });
}

}  // namespace

std::string resolve_model(const std::string& name_or_path) {
  if (name_or_path.empty()) fail("no model is given; expected a directory or org/name");
  if (directory_exists(name_or_path) || file_exists(name_or_path)) return name_or_path;
  const size_t at = name_or_path.find('@');
  const std::string name = name_or_path.substr(0, at);
  const std::string revision = at == std::string::npos ? "main" : name_or_path.substr(at + 1);
  if (!is_repository_name(name))
    fail(
        "{}: no such directory; expected the directory of a Hugging Face model, or org/name of a model in "
        "the "
        "local Hugging Face cache",
        name_or_path);
  const std::string cache = cache_directory();
  const std::string repository = join_path(cache, "models--" + replace_all(name, "/", "--"));
  const std::string where = "the revision of " + name_or_path;
  const std::string reference = safe_join(join_path(repository, "refs"), revision, where);
  const std::string commit =
      file_exists(reference) ? std::string(trim(read_file(reference, 4096))) : revision;
  const std::string snapshot = safe_join(join_path(repository, "snapshots"), commit, reference);
  if (directory_exists(snapshot)) return snapshot;
  const std::string option = at == std::string::npos ? "" : " --revision " + revision;
  if (name.find('/') == std::string::npos)
    fail(
        "{}: no such directory, and no model of this name in the Hugging Face cache ({}); expected a "
        "directory or "
        "org/name",
        name_or_path, cache);
  fail("{}: neither a directory nor in the Hugging Face cache ({}); get it with: hf download {}{}",
       name_or_path, cache, name, option);
}

}  // namespace serval
