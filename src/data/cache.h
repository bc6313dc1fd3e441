// Files that can be made again: unpacked and tokenised data, named by a hash of all that they come from. Two
// processes may use one directory: a file is made under a lock, checked, and appears whole. What was not used
// for longest goes first where the directory outgrows its limit. Without a directory nothing is kept.
//
//   const DataCache cache({.directory = default_cache_directory(), .limit = int64_t{64} << 30});
//   const MappedFile file = cache.get("tokens-" + hash.hex(), is_whole, [&](CacheWriter& out) { ... });
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"

namespace serval {

struct CacheOptions {
  std::string directory;  // "": keep nothing
  int64_t limit = int64_t{64} << 30;
};

// $XDG_CACHE_HOME/serval, else ~/.cache/serval, else a folder of the system's temporary files.
std::string default_cache_directory();

// A file being made.
class CacheWriter {
 public:
  CacheWriter(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  void write(std::string_view bytes);
  void write(std::span<const std::byte> bytes);
  void write_at(int64_t offset, std::string_view bytes);  // in what was written before
  int64_t size() const { return size_; }

 private:
  int descriptor_;
  std::string path_;
  int64_t size_ = 0;
};

// Bytes that are collected on disk, to be read back once: a column of a file whose other columns come first.
class SpillFile {
 public:
  explicit SpillFile(const std::string& directory);  // "": where temporary files go
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;
  void write(std::string_view bytes);
  // All of it, piece by piece.
  void read_back(const std::function<void(std::string_view piece)>& take);

 private:
  void flush();
  int descriptor_ = -1;
  std::string directory_, buffer_;
};

class DataCache {
 public:
  DataCache() = default;
  explicit DataCache(CacheOptions options) : options_(std::move(options)) {}
  const std::string& directory() const { return options_.directory; }
  int64_t limit() const { return options_.limit; }
  // Bytes that the disk of the directory has free; without one, of the temporary files' place.
  int64_t free_bytes() const;

  // The file `name`; where there is none, or `is_whole` says false of it, `make` writes it. `made` tells
  // which.
  using IsWhole = std::function<bool(const MappedFile&)>;
  using Make = std::function<void(CacheWriter&)>;
  MappedFile get(const std::string& name, const IsWhole& is_whole, const Make& make,
                 bool* made = nullptr) const;

 private:
  std::string path_of(const std::string& name) const;
  void remove_oldest(const std::string& keep) const;

  CacheOptions options_;
};

}  // namespace serval
