#include "data/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "data/temporary_file.h"

namespace serval {
namespace {

constexpr const char* kEntrySuffix = ".data";
constexpr const char* kPartialSuffix = ".part";

std::string reason() {
  return std::strerror(errno);
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

// The number that a descriptor is known by, as a path to map.
std::string path_of_descriptor(int descriptor) {
  return fmt::format("/proc/self/fd/{}", descriptor);
}

}  // namespace

std::string default_cache_directory() {
  const auto set = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value != nullptr && value[0] == '/' ? value : "";
  };
  if (const std::string cache = set("XDG_CACHE_HOME"); !cache.empty()) return join_path(cache, "serval");
  if (const std::string home = set("HOME"); !home.empty()) return join_path(home, ".cache/serval");
  return join_path(temporary_directory(), "serval-cache");
}

void CacheWriter::write(std::string_view bytes) {
  write_all(descriptor_, bytes, path_);
  size_ += static_cast<int64_t>(bytes.size());
}

void CacheWriter::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void CacheWriter::write_at(int64_t offset, std::string_view bytes) {
  SERVAL_CHECK(offset >= 0 && offset + static_cast<int64_t>(bytes.size()) <= size_);
  if (::pwrite(descriptor_, bytes.data(), bytes.size(), offset) != static_cast<ssize_t>(bytes.size()))
    fail("{}: cannot write: {}", path_, reason());
}

SpillFile::SpillFile(const std::string& directory)
    : descriptor_(open_nameless(directory)), directory_(directory) {}

SpillFile::~SpillFile() {
  ::close(descriptor_);
}

void SpillFile::write(std::string_view bytes) {
  buffer_ += bytes;
  if (buffer_.size() >= size_t{1} << 20) flush();
}

void SpillFile::flush() {
  write_all(descriptor_, buffer_, directory_);
  buffer_.clear();
}

void SpillFile::read_back(const std::function<void(std::string_view)>& take) {
  flush();
  ::lseek(descriptor_, 0, SEEK_SET);
  std::string piece(size_t{1} << 20, '\0');
  while (true) {
    const ssize_t got = ::read(descriptor_, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("{}: cannot read a temporary file: {}", directory_, reason());
    if (got == 0) return;
    take(std::string_view(piece).substr(0, static_cast<size_t>(got)));
  }
}

std::string DataCache::path_of(const std::string& name) const {
  return join_path(options_.directory, name + kEntrySuffix);
}

int64_t DataCache::free_bytes() const {
  struct statvfs status {};
  const std::string directory = options_.directory.empty() ? temporary_directory() : options_.directory;
  if (::statvfs(directory.c_str(), &status) != 0) return std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

MappedFile DataCache::get(const std::string& name, const IsWhole& is_whole, const Make& make,
                          bool* made) const {
  if (made != nullptr) *made = true;
  const std::string directory = options_.directory.empty() ? temporary_directory() : options_.directory;
  if (options_.directory.empty()) {
    const Descriptor file(open_nameless(directory));
    CacheWriter writer(file.number(), directory);
    make(writer);
    return MappedFile(path_of_descriptor(file.number()));
  }
  make_directories(directory);
  const std::string path = path_of(name);
  const auto found = [&](MappedFile& file) {
    if (!file_exists(path)) return false;
    file = MappedFile(path);
    return is_whole(file);
  };
  MappedFile file;
  bool have = found(file);
  if (!have) {
    // The file that is being made carries the lock. Whoever waited for it looks again.
    const std::string partial = path + kPartialSuffix;
    const Descriptor part(::open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (part.number() < 0)
      fail("{}: cannot create: {}; dataset_cache_dir names another place", partial, reason());
    if (::flock(part.number(), LOCK_EX | LOCK_NB) != 0) {
      log_info("waiting for another process that prepares the same data ({})", partial);
      while (::flock(part.number(), LOCK_EX) != 0 && errno == EINTR) {
      }
    }
    have = found(file);
    if (!have) {
      if (file_exists(path)) warn("{}: is damaged or of another version; it is made again", path);
      // Written beside the lock, as the lock's file may be what another process waits on.
      static std::atomic<int> counter{0};
      const std::string fresh = path + fmt::format(".tmp-{}-{}", ::getpid(), counter++);
      const Descriptor out(::open(fresh.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
      if (out.number() < 0)
        fail("{}: cannot create: {}; dataset_cache_dir names another place", fresh, reason());
      try {
        CacheWriter writer(out.number(), fresh);
        make(writer);
        file = MappedFile(path_of_descriptor(out.number()));
        if (::rename(fresh.c_str(), path.c_str()) != 0)
          fail("{}: cannot be put in place: {}", path, reason());
      } catch (...) {
        ::unlink(fresh.c_str());
        ::unlink(partial.c_str());
        throw;
      }
      remove_oldest(path);
    }
    ::unlink(partial.c_str());
  }
  if (have) ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // used now
  if (made != nullptr) *made = !have;
  return file;
}

void DataCache::remove_oldest(const std::string& keep) const {
  struct Entry {
    std::string path;
    int64_t bytes, used;
  };
  std::vector<Entry> entries;
  int64_t total = 0;
  for (const std::string& name : list_directory(options_.directory)) {
    const std::string path = join_path(options_.directory, name);
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    const int64_t used = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
    // What a killed process left behind.
    if (name.find(std::string(kEntrySuffix) + ".tmp-") != std::string::npos) {
      if (::time(nullptr) - status.st_mtim.tv_sec > 24 * 3600) ::unlink(path.c_str());
      continue;
    }
    if (!ends_with(name, kEntrySuffix)) continue;
    entries.push_back({path, status.st_size, used});
    total += status.st_size;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (total <= options_.limit) return;
    if (entry.path == keep) continue;
    // A process that has it mapped keeps it until it ends.
    if (::unlink(entry.path.c_str()) == 0) total -= entry.bytes;
  }
}

}  // namespace serval
