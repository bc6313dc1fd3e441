#include "data/readers/unpack.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"

namespace serval {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr size_t kForgetBytes = size_t{64} << 20;
constexpr int64_t kLeaveFree = int64_t{256} << 20;

// Where unpacked bytes go, with the limits that stop a small file from filling the disk.
class Output {
 public:
  Output(CacheWriter& writer, const DataCache& cache, const std::string& path)
      : writer_(writer), cache_(cache), path_(path) {}

  void write(std::string_view bytes) {
    writer_.write(bytes);
    if (writer_.size() < next_check_) return;
    next_check_ = writer_.size() + (int64_t{64} << 20);
    if (writer_.size() > cache_.limit())
      fail("{}: unpacks to more than dataset_cache_limit ({}); raise it, or unpack the file by hand", path_,
           human_bytes(cache_.limit()));
    if (cache_.free_bytes() < kLeaveFree)
      fail("{}: unpacks to more than the disk has free ({} done); dataset_cache_dir names another place",
           path_, human_bytes(writer_.size()));
  }

 private:
  CacheWriter& writer_;
  const DataCache& cache_;
  const std::string& path_;
  int64_t next_check_ = 0;
};

// Hands out the file piece by piece and gives back the memory of what was read.
class Input {
 public:
  explicit Input(const MappedFile& file) : file_(file) {}
  std::span<const std::byte> next() {
    if (at_ - forgotten_ >= kForgetBytes) {
      file_.forget(forgotten_, at_ - forgotten_);
      forgotten_ = at_;
    }
    const auto piece = file_.bytes().subspan(at_, std::min(kPiece, file_.bytes().size() - at_));
    at_ += piece.size();
    return piece;
  }

 private:
  const MappedFile& file_;
  size_t at_ = 0, forgotten_ = 0;
};

[[noreturn]] void ends_early(const std::string& path) {
  fail("{}: the compressed data ends early; was the file cut off?", path);
}

void unpack_gzip(const std::string& path, const MappedFile& file, Output& output) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) fail("{}: zlib cannot be started", path);
  const struct End {
    z_stream& stream;
    ~End() { inflateEnd(&stream); }
  } end{stream};
  std::string buffer(kPiece, '\0');
  Input input(file);
  bool complete = false;  // at the end of a member; more may follow
  for (auto piece = input.next(); !piece.empty(); piece = input.next()) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(piece.data()));
    stream.avail_in = static_cast<uInt>(piece.size());
    while (stream.avail_in > 0) {
      // Zeros that fill up a block of a tape or disk, as gzip itself takes them.
      while (complete && stream.avail_in > 0 && *stream.next_in == 0) {
        ++stream.next_in;
        --stream.avail_in;
      }
      if (stream.avail_in == 0) break;
      if (complete) inflateReset(&stream);
      int status = Z_OK;
      do {
        stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
        stream.avail_out = static_cast<uInt>(buffer.size());
        status = inflate(&stream, Z_NO_FLUSH);
        if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
          fail("{}: the gzip data is damaged ({})", path,
               stream.msg == nullptr ? "unknown error" : stream.msg);
        output.write(std::string_view(buffer).substr(0, buffer.size() - stream.avail_out));
      } while (status == Z_OK && (stream.avail_in > 0 || stream.avail_out == 0));
      complete = status == Z_STREAM_END;
      if (!complete) break;
    }
  }
  if (!complete) ends_early(path);
}

void unpack_zstd(const std::string& path, const MappedFile& file, Output& output) {
  const std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(),
                                                                        ZSTD_freeDStream);
  if (stream == nullptr) fail("{}: Zstandard cannot be started", path);
  std::string buffer(kPiece, '\0');
  Input input(file);
  size_t wanted = 1;  // 0: at the end of a frame; more may follow
  for (auto piece = input.next(); !piece.empty(); piece = input.next()) {
    ZSTD_inBuffer in{piece.data(), piece.size(), 0};
    bool full = true;
    while (in.pos < in.size || full) {
      ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
      wanted = ZSTD_decompressStream(stream.get(), &out, &in);
      if (ZSTD_isError(wanted) != 0)
        fail("{}: the Zstandard data is damaged ({})", path, ZSTD_getErrorName(wanted));
      output.write(std::string_view(buffer).substr(0, out.pos));
      full = out.pos == out.size;
      if (wanted == 0 && in.pos == in.size) break;
    }
  }
  if (wanted != 0) ends_early(path);
}

}  // namespace

std::optional<Compression> compression_of(const std::string& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const auto begins = [&](std::initializer_list<unsigned> magic) {
    size_t i = 0;
    if (bytes.size() < magic.size()) return false;
    for (const unsigned byte : magic)
      if (std::to_integer<unsigned>(bytes[i++]) != byte) return false;
    return true;
  };
  if (begins({0x1f, 0x8b})) return Compression::gzip;
  if (begins({0x28, 0xb5, 0x2f, 0xfd})) return Compression::zstd;
  // A frame to be skipped may come first.
  if (bytes.size() >= 4 && (std::to_integer<unsigned>(bytes[0]) & 0xf0) == 0x50 &&
      std::to_integer<unsigned>(bytes[1]) == 0x2a && std::to_integer<unsigned>(bytes[2]) == 0x4d &&
      std::to_integer<unsigned>(bytes[3]) == 0x18)
    return Compression::zstd;
  const auto refuse = [&](const char* kind) {
    fail("{}: is compressed with {}, which is not read; unpack it, or pack it with gzip or zstd", path, kind);
  };
  if (begins({'B', 'Z', 'h'}) && ends_with(path, ".bz2")) refuse("bzip2");
  if (begins({0xfd, '7', 'z', 'X', 'Z', 0})) refuse("xz");
  if (begins({'P', 'K', 3, 4})) refuse("zip");
  if (begins({'7', 'z', 0xbc, 0xaf})) refuse("7-Zip");
  return std::nullopt;
}

MappedFile unpack(const std::string& path, Compression kind, const DataCache& cache) {
  const auto make = [&](CacheWriter& writer) {
    Output output(writer, cache, path);
    const MappedFile file(path);
    kind == Compression::gzip ? unpack_gzip(path, file, output) : unpack_zstd(path, file, output);
  };
  ContentHash hash;
  hash.text("unpacked").file(path);
  // A file appears only when all of it was written, so there is nothing to check again.
  return cache.get(
      "unpacked-" + hash.hex(), [](const MappedFile&) { return true; }, make);
}

std::string without_compression(std::string name) {
  for (const char* suffix : {".gz", ".gzip", ".zst", ".zstd"})
    if (ends_with(name, suffix)) return name.substr(0, name.size() - std::string_view(suffix).size());
  return name;
}

}  // namespace serval
