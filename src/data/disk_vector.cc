#include "data/disk_vector.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/error.h"
#include "data/temporary_file.h"

namespace serval {
namespace {

constexpr size_t kFileStep = size_t{1} << 20;  // files grow by whole ones of these

// Room on the disk is taken now: a write into a mapped page that the disk has no room for would be a signal.
void take_room(int descriptor, size_t bytes, const std::string& directory) {
  const int error = ::posix_fallocate(descriptor, 0, static_cast<off_t>(bytes));
  if (error != 0)
    fail("{}: no room for a temporary file of {} bytes: {}; dataset_cache_dir or TMPDIR names another place",
         directory.empty() ? temporary_directory() : directory, bytes, std::strerror(error));
}

}  // namespace

void DiskBuffer::reserve(size_t bytes) {
  if (bytes <= capacity_) return;
  if (bytes <= kMemoryBytes) {
    void* larger = std::realloc(data_, bytes);
    if (larger == nullptr) throw std::bad_alloc();
    std::memset(static_cast<std::byte*>(larger) + capacity_, 0, bytes - capacity_);
    data_ = static_cast<std::byte*>(larger);
    capacity_ = bytes;
    return;
  }
  const size_t wanted = (bytes + kFileStep - 1) / kFileStep * kFileStep;
  if (descriptor_ >= 0) {
    take_room(descriptor_, wanted, directory_);
    void* moved = ::mremap(data_, capacity_, wanted, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) fail("a temporary file cannot be mapped: {}", std::strerror(errno));
    data_ = static_cast<std::byte*>(moved);
    capacity_ = wanted;
    return;
  }
  DiskBuffer file(directory_);
  file.descriptor_ = open_nameless(directory_);
  take_room(file.descriptor_, wanted, directory_);
  void* mapped = ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_SHARED, file.descriptor_, 0);
  if (mapped == MAP_FAILED) fail("a temporary file cannot be mapped: {}", std::strerror(errno));
  file.data_ = static_cast<std::byte*>(mapped);
  file.capacity_ = wanted;
  if (capacity_ > 0) std::memcpy(file.data_, data_, capacity_);
  swap(file);
}

void DiskBuffer::forget() const {
  if (descriptor_ >= 0) ::madvise(data_, capacity_, MADV_DONTNEED);
}

void DiskBuffer::swap(DiskBuffer& other) noexcept {
  std::swap(directory_, other.directory_);
  std::swap(data_, other.data_);
  std::swap(capacity_, other.capacity_);
  std::swap(descriptor_, other.descriptor_);
}

void DiskBuffer::release() noexcept {
  if (descriptor_ >= 0) {
    if (data_ != nullptr) ::munmap(data_, capacity_);
    ::close(descriptor_);
  } else {
    std::free(data_);
  }
}

}  // namespace serval
