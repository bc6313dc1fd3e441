// A vector of plain values that is memory while it is small and a mapped file without a name once it is not,
// so that what is kept of each row or document costs the process no memory of its own: the system writes its
// pages to the disk and drops them when others need the room.
//
//   DiskVector<int64_t> starts(cache.directory());   // "": where temporary files go
//   starts.push_back(7);
//   std::sort(starts.begin(), starts.end());
//
// Reading from several threads is safe. A full disk is a UserError, never a signal.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace serval {

// The bytes of a DiskVector.
class DiskBuffer {
 public:
  // Up to here bytes are held in memory.
  static constexpr size_t kMemoryBytes = size_t{1} << 20;

  explicit DiskBuffer(std::string directory = {}) : directory_(std::move(directory)) {}
  ~DiskBuffer() { release(); }
  DiskBuffer(DiskBuffer&& other) noexcept { swap(other); }
  DiskBuffer& operator=(DiskBuffer&& other) noexcept {
    swap(other);
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t capacity() const { return capacity_; }
  bool on_disk() const { return descriptor_ >= 0; }
  // Room for `bytes`; what is there already stays. New bytes are 0.
  void reserve(size_t bytes);
  // Gives back the memory of a file's pages; they are read again when needed.
  void forget() const;

 private:
  void swap(DiskBuffer& other) noexcept;
  void release() noexcept;

  std::string directory_;
  std::byte* data_ = nullptr;
  size_t capacity_ = 0;
  int descriptor_ = -1;  // of the file; -1: in memory
};

template <class T>
class DiskVector {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= alignof(std::max_align_t));

 public:
  using value_type = T;
  using const_iterator = const T*;

  explicit DiskVector(std::string directory = {}) : buffer_(std::move(directory)) {}
  DiskVector(DiskVector&& other) noexcept
      : buffer_(std::move(other.buffer_)), size_(std::exchange(other.size_, 0)) {}
  DiskVector& operator=(DiskVector&& other) noexcept {
    std::swap(buffer_, other.buffer_);
    std::swap(size_, other.size_);
    return *this;
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* begin() { return reinterpret_cast<T*>(buffer_.data()); }
  T* end() { return begin() + size_; }
  const T* begin() const { return reinterpret_cast<const T*>(buffer_.data()); }
  const T* end() const { return begin() + size_; }
  T& operator[](size_t i) { return begin()[i]; }
  const T& operator[](size_t i) const { return begin()[i]; }
  const T& back() const { return begin()[size_ - 1]; }
  std::span<const T> span() const { return {begin(), size_}; }

  void push_back(const T& value) {
    if ((size_ + 1) * sizeof(T) > buffer_.capacity()) grow(size_ + 1);
    begin()[size_++] = value;
  }
  void pop_back() { --size_; }
  // New values are 0.
  void resize(size_t size) {
    if (size * sizeof(T) > buffer_.capacity()) grow(size);
    for (size_t i = size_; i < size; ++i) begin()[i] = T{};
    size_ = size;
  }

  void forget() const { buffer_.forget(); }
  // Of the process's own, which is little whatever the size.
  int64_t memory_bytes() const { return buffer_.on_disk() ? 0 : static_cast<int64_t>(buffer_.capacity()); }
  bool on_disk() const { return buffer_.on_disk(); }

  friend bool operator==(const DiskVector& a, const DiskVector& b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i)
      if (!(a[i] == b[i])) return false;
    return true;
  }

 private:
  void grow(size_t size) {
    const size_t doubled = buffer_.capacity() * 2;
    buffer_.reserve(size * sizeof(T) > doubled ? size * sizeof(T) : doubled);
  }

  DiskBuffer buffer_;
  size_t size_ = 0;
};

}  // namespace serval
