#include "base/hash.h"

#include <fmt/core.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/file.h"

namespace serval {
namespace {

XXH3_state_t* of(void* state) {
  return static_cast<XXH3_state_t*>(state);
}

}  // namespace

ContentHash::ContentHash() : state_(XXH3_createState()) {
  SERVAL_CHECK(state_ != nullptr);
  XXH3_128bits_reset(of(state_));
}

ContentHash::~ContentHash() {
  XXH3_freeState(of(state_));
}

ContentHash& ContentHash::bytes(std::span<const std::byte> data) {
  XXH3_128bits_update(of(state_), data.data(), data.size());
  return *this;
}

ContentHash& ContentHash::number(int64_t value) {
  return bytes(std::as_bytes(std::span(&value, 1)));
}

ContentHash& ContentHash::text(std::string_view text) {
  number(static_cast<int64_t>(text.size()));
  return bytes(std::as_bytes(std::span(text.data(), text.size())));
}

ContentHash& ContentHash::file(const std::string& path) {
  constexpr size_t kPiece = size_t{16} << 20;
  const MappedFile file(path);
  const auto all = file.bytes();
  number(static_cast<int64_t>(all.size()));
  for (size_t at = 0; at < all.size(); at += kPiece) {
    const size_t size = std::min(kPiece, all.size() - at);
    bytes(all.subspan(at, size));
    file.forget(at, size);
  }
  return *this;
}

std::string ContentHash::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(of(state_));
  return fmt::format("{:016x}{:016x}", static_cast<uint64_t>(hash.high64), static_cast<uint64_t>(hash.low64));
}

uint64_t hash64(std::span<const std::byte> data) {
  return XXH3_64bits(data.data(), data.size());
}

}  // namespace serval
