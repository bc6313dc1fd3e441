// Reading and writing files. Whatever Serval writes appears whole or not at all: it is written under a
// temporary name in the same folder, synced, then renamed. All failures are UserErrors with the path and the
// system's reason.
//
//   std::string text = read_file("config.json", 16 << 20);
//   AtomicFile file("out/model.safetensors");
//   file.write(header);
//   file.commit();                       // without commit() nothing is left behind
//   MappedFile weights("model.safetensors");
//   weights.bytes().subspan(8, n);
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace serval {

// `max_bytes` guards against reading a file of the wrong kind whole.
std::string read_file(const std::string& path, int64_t max_bytes = int64_t{1} << 31);
bool file_exists(const std::string& path);  // a regular file (or a link to one)
bool directory_exists(const std::string& path);
bool same_directory(const std::string& a, const std::string& b);  // false where one does not exist
int64_t file_size(const std::string& path);
void make_directories(const std::string& path);
std::string join_path(std::string_view directory, std::string_view name);
std::string base_name(std::string_view path);
std::vector<std::string> list_directory(const std::string& path);  // names, sorted
void remove_tree(const std::string& path);                         // no error where absent

void write_file_atomically(const std::string& path, std::string_view content);

// Joins `name`, which a file claimed, to `directory`; refuses absolute names and names with "..".
std::string safe_join(const std::string& directory, const std::string& name, const std::string& where);

class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::string_view bytes);
  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  std::string path_, temporary_;
  int descriptor_ = -1;
};

// A directory that appears whole: fill path(), then commit() renames it to its final name, replacing an older
// one.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(std::string final_path);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;
  const std::string& path() const { return temporary_; }
  void commit();

 private:
  std::string final_, temporary_;
  bool committed_ = false;
};

// Reads of any part of a file, by several threads at once.
class FileReader {
 public:
  explicit FileReader(std::string path);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;
  const std::string& path() const { return path_; }
  // All of the bytes; a UserError where the file ends before.
  void read(uint64_t offset, void* target, size_t size) const;

 private:
  std::string path_;
  int descriptor_ = -1;
};

// A read-only memory map of a whole file.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // The pages of this range will not be needed again: they leave the process's resident memory.
  void forget(size_t offset, size_t size) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace serval
