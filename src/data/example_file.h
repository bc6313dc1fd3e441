// Tokenised documents in a file of the cache: written one by one, then mapped. The file carries a hash of all
// that it holds and a note in JSON (statistics, what the user was told when it was made).
//
//   const MappedFile file = cache.get(name, ExampleFile::is_whole, [&](CacheWriter& out) {
//     ExampleFileWriter writer(out, cache.directory());
//     writer.add(ids, trained);
//     writer.finish(note);
//   });
//   ExampleFile tokens = ExampleFile::open(std::move(file));
#pragma once
#include <memory>
#include <string>

#include "base/hash.h"
#include "base/json.h"
#include "data/cache.h"
#include "data/examples.h"

namespace serval {

class ExampleFileWriter final : public ExampleSink {
 public:
  // `directory` takes temporary files.
  ExampleFileWriter(CacheWriter& out, const std::string& directory);
  void add(std::span<const int32_t> ids, const std::vector<bool>& trained,
           std::span<const float> weights = {}) override;
  void add_values(std::span<const double> values) override;
  void finish(const Json& note);
  int64_t size() const { return documents_; }

 private:
  void write(std::string_view bytes);
  void append(SpillFile& spill);

  CacheWriter& out_;
  ContentHash hash_;
  SpillFile trained_, starts_, weights_, values_, value_starts_;
  std::string ids_;    // not yet written
  uint64_t word_ = 0;  // the bits of the last tokens, not yet written
  float last_weight_ = 1;
  int64_t documents_ = 0, tokens_ = 0, labels_ = 0, runs_ = 0;
  int64_t valued_ = 0, num_values_ = 0;  // documents that have values
};

class ExampleFile {
 public:
  // Reads all of it once, to compare its hash.
  static bool is_whole(const MappedFile& file);
  // Of a file that is whole.
  static ExampleFile open(MappedFile file);

  std::shared_ptr<const ExampleBlock> block;
  Json note;
};

}  // namespace serval
