#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <list>
#include <mutex>

#include "base/dynamic_library.h"
#include "base/text.h"
#include "data/arrow_plugin/arrow_plugin.h"
#include "data/readers/readers.h"

namespace serval {
namespace {

constexpr const char* kPlugin = "libserval_arrow.so";

struct Plugin {
  decltype(&serval_arrow_version) version = nullptr;
  decltype(&serval_arrow_open) open = nullptr;
  decltype(&serval_arrow_close) close = nullptr;
  decltype(&serval_arrow_rows) rows = nullptr;
  decltype(&serval_arrow_read) read = nullptr;
  std::string missing;  // why there is none; "" where there is
};

template <class Function>
void bind(void* library, const char* name, Function& function, std::string& missing) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  if (function == nullptr) missing = fmt::format("{} lacks {}", kPlugin, name);
}

// "libparquet.so.2600: cannot open shared object file: ..." -> "libparquet.so.2600"; "" where the loader said
// something else.
std::string missing_library(const std::string& reason) {
  const size_t colon = reason.find(':');
  return starts_with(reason, "lib") && reason.find("cannot open shared object") != std::string::npos
             ? reason.substr(0, colon)
             : std::string();
}

// Opens the plugin. Where Apache Arrow's libraries are not beside it, those of an installed pyarrow are
// taken, from $SERVAL_PYARROW_DIR or a Python environment; they are found by their names once they are
// loaded.
void* open_plugin(const std::string& path, std::string& missing) {
  if (void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  const char* reason = ::dlerror();
  missing = reason == nullptr ? path + " cannot be opened" : reason;
  const std::string wanted = missing_library(missing);
  if (wanted.empty()) return nullptr;
  std::vector<std::string> directories = python_package_directories("pyarrow");
  if (const char* set = std::getenv("SERVAL_PYARROW_DIR"); set != nullptr && *set != '\0')
    directories.insert(directories.begin(), set);
  for (const std::string& directory : directories) {
    const std::string library = join_path(directory, wanted);
    if (!file_exists(library) || ::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) continue;
    if (void* plugin = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return plugin;
  }
  const size_t dot = wanted.rfind('.');
  const int version = std::atoi(wanted.c_str() + (dot == std::string::npos ? wanted.size() : dot + 1)) / 100;
  missing = fmt::format(
      "{} finds no {}: install `pip install \"pyarrow=={}.*\"` in the active Python environment, or set "
      "SERVAL_PYARROW_DIR to the folder that holds it, or copy libarrow.so.* and libparquet.so.* beside {}",
      kPlugin, wanted, version, path);
  return nullptr;
}

Plugin load_plugin() {
  Plugin plugin;
  plugin.missing =
      fmt::format("{} is not beside the program (`scripts/setup --parquet` and a build make it)", kPlugin);
  void* library = nullptr;
  std::vector<std::string> paths;
  if (const char* set = std::getenv("SERVAL_ARROW_PLUGIN"); set != nullptr && *set != '\0') {
    paths.emplace_back(set);
    plugin.missing = fmt::format("SERVAL_ARROW_PLUGIN names {}, which is no file", set);
  } else {
    for (const std::string& directory : library_directories())
      paths.push_back(directory.empty() ? kPlugin : join_path(directory, kPlugin));
  }
  for (const std::string& path : paths) {
    const bool by_loader = path == kPlugin;
    if (!by_loader && !file_exists(path)) continue;
    std::string missing;
    library = open_plugin(path, missing);
    if (library != nullptr) break;
    // What the loader does not find by the name alone tells nothing.
    if (!by_loader) plugin.missing = missing;
  }
  if (library == nullptr) return plugin;
  plugin.missing.clear();
  bind(library, "serval_arrow_version", plugin.version, plugin.missing);
  bind(library, "serval_arrow_open", plugin.open, plugin.missing);
  bind(library, "serval_arrow_close", plugin.close, plugin.missing);
  bind(library, "serval_arrow_rows", plugin.rows, plugin.missing);
  bind(library, "serval_arrow_read", plugin.read, plugin.missing);
  if (plugin.missing.empty() && plugin.version() != SERVAL_ARROW_PLUGIN_VERSION)
    plugin.missing = fmt::format("{} is of another version of Serval", kPlugin);
  return plugin;
}

const Plugin& plugin() {
  static const Plugin plugin = load_plugin();
  return plugin;
}

// Blocks of rows are kept as JSON lines, the few that were used last: rows are asked for in order, by several
// threads that are near each other.
class ArrowReader final : public DatasetReader {
 public:
  explicit ArrowReader(const std::string& path) : path_(path), table_(nullptr, plugin().close) {
    std::array<char, 512> error{};
    table_.reset(plugin().open(path.c_str(), error.data(), error.size()));
    if (table_ == nullptr) fail("{}: cannot be read: {}", path, error.data());
    size_ = plugin().rows(table_.get());
  }

  int64_t size() const override { return size_; }
  const std::string& path() const override { return path_; }
  std::string where(int64_t index) const override { return fmt::format("{}: row {}", path_, index + 1); }

  Json row(int64_t index) const override {
    SERVAL_CHECK(index >= 0 && index < size_);
    const std::shared_ptr<const Block> block = block_of(index / kBlockRows);
    const auto place = static_cast<size_t>(index % kBlockRows);
    const size_t begin = place == 0 ? 0 : block->ends[place - 1];
    return Json::parse(std::string_view(block->text).substr(begin, block->ends[place] - begin), where(index));
  }

 private:
  static constexpr int64_t kBlockRows = 256;
  static constexpr size_t kBlocksKept = 32;
  struct Block {
    int64_t number = 0;
    std::string text;
    std::vector<size_t> ends;
  };

  std::shared_ptr<const Block> block_of(int64_t number) const {
    const std::lock_guard lock(mutex_);
    for (auto at = blocks_.begin(); at != blocks_.end(); ++at) {
      if ((*at)->number != number) continue;
      blocks_.splice(blocks_.begin(), blocks_, at);
      return blocks_.front();
    }
    auto block = std::make_shared<Block>();
    block->number = number;
    const int64_t begin = number * kBlockRows, count = std::min(kBlockRows, size_ - begin);
    const auto write = [](void* context, const char* bytes, size_t size) {
      auto& into = *static_cast<Block*>(context);
      into.text.append(bytes, size);
      into.ends.push_back(into.text.size());
    };
    std::array<char, 512> error{};
    if (plugin().read(table_.get(), begin, count, write, block.get(), error.data(), error.size()) != 0 ||
        static_cast<int64_t>(block->ends.size()) != count)
      fail("{}: rows {} to {} cannot be read: {}", path_, begin + 1, begin + count, error.data());
    blocks_.push_front(block);
    if (blocks_.size() > kBlocksKept) blocks_.pop_back();
    return block;
  }

  std::string path_;
  std::unique_ptr<ServalArrowTable, decltype(&serval_arrow_close)> table_;
  int64_t size_ = 0;
  mutable std::mutex mutex_;
  mutable std::list<std::shared_ptr<const Block>> blocks_;
};

}  // namespace

std::unique_ptr<DatasetReader> open_arrow(const std::string& path) {
  if (!plugin().missing.empty())
    fail("{}: Parquet and Arrow files are read by a plugin, and {}; or write the rows as JSONL", path,
         plugin().missing);
  return std::make_unique<ArrowReader>(path);
}

}  // namespace serval
