// Compressed files: gzip and Zstandard are unpacked once, in a stream, into a file of the cache (or a
// nameless one), and read from there. Told by their first bytes, whatever the name.
//
//   if (const auto kind = compression_of(path)) file = unpack(path, *kind, cache);
#pragma once
#include <optional>
#include <string>

#include "base/file.h"
#include "data/cache.h"

namespace serval {

enum class Compression { gzip, zstd };

std::optional<Compression> compression_of(const std::string& path);

// Truncated or damaged data, and what unpacks to more than fits on the disk, are UserErrors that name `path`;
// memory stays below a few megabytes (a Zstandard window of at most 128 MiB) whatever the file claims.
MappedFile unpack(const std::string& path, Compression kind, const DataCache& cache);

// "train.jsonl.gz" -> "train.jsonl".
std::string without_compression(std::string name);

}  // namespace serval
