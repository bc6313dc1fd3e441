#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace serval {
namespace fs = std::filesystem;
namespace {

std::string reason() {
  return std::strerror(errno);
}

std::string temporary_name(const std::string& path) {
  static int counter = 0;
  return fmt::format("{}.tmp-{}-{}", path, ::getpid(), __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
}

// A rename is durable only once the folder that holds the name is synced.
void sync_parent(const std::string& path) {
  fs::path parent = fs::path(path).parent_path();
  if (parent.empty()) parent = ".";
  const int descriptor = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor >= 0) {
    ::fsync(descriptor);
    ::close(descriptor);
  }
}

}  // namespace

std::string read_file(const std::string& path, int64_t max_bytes) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("{}: cannot open: {}", path, reason());
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode)) {
    ::close(descriptor);
    fail("{}: is a directory, expected a file", path);
  }
  std::string content;
  // One allocation for a common file, with the room behind it that JSON readers ask for.
  constexpr int64_t kRoomBehind = 64;
  if (S_ISREG(status.st_mode) && status.st_size <= max_bytes)
    content.reserve(static_cast<size_t>(status.st_size + kRoomBehind));
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = ::read(descriptor, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const std::string why = reason();
      ::close(descriptor);
      fail("{}: cannot read: {}", path, why);
    }
    if (got == 0) break;
    content.append(buffer, static_cast<size_t>(got));
    if (static_cast<int64_t>(content.size()) > max_bytes) {
      ::close(descriptor);
      fail("{}: larger than {} bytes, which no file of this kind is", path, max_bytes);
    }
  }
  ::close(descriptor);
  return content;
}

bool file_exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

bool directory_exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool same_directory(const std::string& a, const std::string& b) {
  std::error_code error;
  return directory_exists(a) && directory_exists(b) && fs::equivalent(a, b, error);
}

int64_t file_size(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail("{}: cannot open: {}", path, reason());
  return status.st_size;
}

void make_directories(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail("{}: cannot create the directory: {}", path, error.message());
}

std::string join_path(std::string_view directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  std::string result(directory);
  if (result.back() != '/') result += '/';
  return result += name;
}

std::string base_name(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path, error)) names.push_back(entry.path().filename());
  if (error) fail("{}: cannot list: {}", path, error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void remove_tree(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail("{}: cannot remove: {}", path, error.message());
}

void write_file_atomically(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

std::string safe_join(const std::string& directory, const std::string& name, const std::string& where) {
  const fs::path relative(name);
  bool climbs = relative.is_absolute() || name.empty() || name.find('\0') != std::string::npos;
  for (const auto& part : relative) climbs = climbs || part == "..";
  if (climbs) fail("{}: the file name '{}' leaves its directory, which is refused", where, name);
  return join_path(directory, name);
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), temporary_(temporary_name(path_)) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("{}: cannot create: {}", path_, reason());
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(std::string_view bytes) {
  write(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(descriptor_, bytes.data(), std::min<size_t>(bytes.size(), size_t{1} << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail("{}: cannot write: {}; nothing was left half-written", path_, reason());
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("{}: cannot write: {}; nothing was left half-written", path_, reason());
  ::close(std::exchange(descriptor_, -1));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const std::string why = reason();
    ::unlink(temporary_.c_str());
    fail("{}: cannot be put in place: {}", path_, why);
  }
  sync_parent(path_);
}

AtomicDirectory::AtomicDirectory(std::string final_path) : final_(std::move(final_path)) {
  while (final_.size() > 1 && final_.back() == '/') final_.pop_back();
  temporary_ = temporary_name(final_);
  make_directories(temporary_);
}

AtomicDirectory::~AtomicDirectory() {
  if (!committed_) {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
}

void AtomicDirectory::commit() {
  sync_parent(temporary_ + "/x");
  std::string old;
  if (directory_exists(final_)) {
    old = temporary_name(final_) + "-old";
    if (::rename(final_.c_str(), old.c_str()) != 0) fail("{}: cannot be replaced: {}", final_, reason());
  }
  if (::rename(temporary_.c_str(), final_.c_str()) != 0) {
    const std::string why = reason();
    if (!old.empty()) ::rename(old.c_str(), final_.c_str());
    fail("{}: cannot be put in place: {}", final_, why);
  }
  committed_ = true;
  sync_parent(final_);
  if (!old.empty()) remove_tree(old);
}

FileReader::FileReader(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail("{}: cannot open: {}", path_, reason());
}

FileReader::~FileReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

void FileReader::read(uint64_t offset, void* target, size_t size) const {
  auto* to = static_cast<char*>(target);
  while (size > 0) {
    const ssize_t got = ::pread(descriptor_, to, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("{}: cannot read: {}", path_, reason());
    if (got == 0) fail("{}: ends at byte {}, {} bytes too early; it became shorter", path_, offset, size);
    to += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<size_t>(got);
  }
}

MappedFile::MappedFile(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("{}: cannot open: {}", path, reason());
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail("{}: is not a regular file", path);
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) {
      const std::string why = reason();
      ::close(descriptor);
      fail("{}: cannot map {} bytes: {}", path, size_, why);
    }
    data_ = static_cast<const std::byte*>(address);
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::forget(size_t offset, size_t size) const {
  constexpr size_t kPage = 4096;
  const size_t begin = (offset + kPage - 1) / kPage * kPage,
               end = std::min(offset + size, size_) / kPage * kPage;
  if (end > begin) ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace serval
