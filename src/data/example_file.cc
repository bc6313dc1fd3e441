#include "data/example_file.h"

#include <array>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace serval {
namespace {

constexpr char kMagic[8] = {'S', 'V', 'T', 'O', 'K', 'E', 'N', '2'};
constexpr size_t kHashPiece = size_t{16} << 20;

// Then ids (padded to 8 bytes), bits, starts, runs of weights, values and where those of each document begin
// (where there are any), note. Little-endian, as every machine it runs on.
struct Header {
  char magic[8] = {};
  char hash[32] = {};  // of all behind the header, then of the counts
  int64_t documents = 0, tokens = 0, labels = 0, runs = 0, values = 0, valued = 0, note_bytes = 0;
  auto counts() const { return std::array{documents, tokens, labels, runs, values, valued, note_bytes}; }
};
static_assert(sizeof(Header) == 96);

struct Sections {
  size_t ids = 0, trained = 0, starts = 0, weights = 0, values = 0, value_starts = 0, note = 0, end = 0;
};

// Where everything lies; false where the counts cannot be true of a file of this size.
bool place_sections(const Header& header, size_t file_size, Sections& at) {
  const auto limit = static_cast<int64_t>(file_size);
  for (const int64_t count : header.counts())
    if (count < 0 || count > limit) return false;
  if (header.valued != 0 && header.valued != header.documents) return false;
  at.ids = sizeof(Header);
  at.trained = at.ids + (static_cast<size_t>(header.tokens) * 4 + 7) / 8 * 8;
  at.starts = at.trained + (static_cast<size_t>(header.tokens) + 63) / 64 * 8;
  at.weights = at.starts + (static_cast<size_t>(header.documents) + 1) * 8;
  at.values = at.weights + static_cast<size_t>(header.runs) * sizeof(WeightRun);
  at.value_starts = at.values + static_cast<size_t>(header.values) * 8;
  at.note = at.value_starts + (header.valued > 0 ? static_cast<size_t>(header.valued) + 1 : 0) * 8;
  at.end = at.note + static_cast<size_t>(header.note_bytes);
  return at.end == file_size;
}

bool read_header(const MappedFile& file, Header& header, Sections& at) {
  if (file.bytes().size() < sizeof header) return false;
  std::memcpy(&header, file.bytes().data(), sizeof header);
  return std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 &&
         place_sections(header, file.bytes().size(), at);
}

void add_counts(const Header& header, ContentHash& hash) {
  for (const int64_t count : header.counts()) hash.number(count);
}

template <class T>
std::span<const T> section(const MappedFile& file, size_t at, int64_t count) {
  return {reinterpret_cast<const T*>(file.bytes().data() + at), static_cast<size_t>(count)};
}

template <class T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

ExampleFileWriter::ExampleFileWriter(CacheWriter& out, const std::string& directory)
    : out_(out),
      trained_(directory),
      starts_(directory),
      weights_(directory),
      values_(directory),
      value_starts_(directory) {
  out_.write(bytes_of(Header{}));
  starts_.write(bytes_of(int64_t{0}));
}

void ExampleFileWriter::write(std::string_view bytes) {
  hash_.bytes(std::as_bytes(std::span(bytes.data(), bytes.size())));
  out_.write(bytes);
}

void ExampleFileWriter::add(std::span<const int32_t> ids, const std::vector<bool>& trained,
                            std::span<const float> weights) {
  SERVAL_CHECK(ids.size() == trained.size() && (weights.empty() || weights.size() == ids.size()));
  ids_.append(reinterpret_cast<const char*>(ids.data()), ids.size_bytes());
  for (size_t i = 0; i < ids.size(); ++i, ++tokens_) {
    if (trained[i]) {
      word_ |= uint64_t{1} << (tokens_ % 64);
      labels_ += i > 0;
      const float weight = weights.empty() ? 1.0f : weights[i];
      if (weight != last_weight_) {
        weights_.write(bytes_of(WeightRun{tokens_, weight}));
        last_weight_ = weight;
        ++runs_;
      }
    }
    if (tokens_ % 64 == 63) {
      trained_.write(bytes_of(word_));
      word_ = 0;
    }
  }
  starts_.write(bytes_of(tokens_));
  ++documents_;
  if (ids_.size() >= size_t{1} << 20) {
    write(ids_);
    ids_.clear();
  }
}

void ExampleFileWriter::add_values(std::span<const double> values) {
  ++valued_;
  SERVAL_CHECK(valued_ == documents_, "every document has values, or none");
  value_starts_.write(bytes_of(num_values_));
  values_.write({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  num_values_ += static_cast<int64_t>(values.size());
}

void ExampleFileWriter::append(SpillFile& spill) {
  spill.read_back([this](std::string_view piece) { write(piece); });
}

void ExampleFileWriter::finish(const Json& note) {
  if (tokens_ % 2 != 0) ids_.append(4, '\0');
  write(ids_);
  if (tokens_ % 64 != 0) trained_.write(bytes_of(word_));
  append(trained_);
  append(starts_);
  append(weights_);
  append(values_);
  if (valued_ > 0) value_starts_.write(bytes_of(num_values_));
  append(value_starts_);
  SERVAL_CHECK(valued_ == 0 || valued_ == documents_);
  const std::string text = note.dump();
  write(text);
  Header header{.documents = documents_,
                .tokens = tokens_,
                .labels = labels_,
                .runs = runs_,
                .values = num_values_,
                .valued = valued_,
                .note_bytes = static_cast<int64_t>(text.size())};
  add_counts(header, hash_);
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::memcpy(header.hash, hash_.hex().data(), sizeof header.hash);
  out_.write_at(0, bytes_of(header));
}

bool ExampleFile::is_whole(const MappedFile& file) {
  Header header;
  Sections at;
  if (!read_header(file, header, at)) return false;
  ContentHash hash;
  for (size_t begin = at.ids; begin < at.end; begin += kHashPiece) {
    const size_t size = std::min(kHashPiece, at.end - begin);
    hash.bytes(file.bytes().subspan(begin, size));
    file.forget(begin, size);
  }
  add_counts(header, hash);
  if (std::memcmp(hash.hex().data(), header.hash, sizeof header.hash) != 0) return false;
  const auto starts = section<int64_t>(file, at.starts, header.documents + 1);
  const auto in_order = [](std::span<const int64_t> places, int64_t end) {
    return places.front() == 0 && places.back() == end && std::is_sorted(places.begin(), places.end());
  };
  return in_order(starts, header.tokens) &&
         (header.valued == 0 ||
          in_order(section<int64_t>(file, at.value_starts, header.valued + 1), header.values));
}

ExampleFile ExampleFile::open(MappedFile file) {
  Header header;
  Sections at;
  SERVAL_CHECK(read_header(file, header, at));
  auto block = std::make_shared<ExampleBlock>();
  block->file_ = std::move(file);
  const MappedFile& mapped = block->file_;
  block->ids_ = section<int32_t>(mapped, at.ids, header.tokens);
  block->trained_ = section<uint64_t>(mapped, at.trained, (header.tokens + 63) / 64);
  block->starts_ = section<int64_t>(mapped, at.starts, header.documents + 1);
  block->weights_ = section<WeightRun>(mapped, at.weights, header.runs);
  block->values_ = section<double>(mapped, at.values, header.values);
  if (header.valued > 0) block->value_starts_ = section<int64_t>(mapped, at.value_starts, header.valued + 1);
  block->num_labels_ = header.labels;
  const auto note = section<char>(mapped, at.note, header.note_bytes);
  ExampleFile result;
  result.note = Json::parse({note.data(), note.size()}, "the note of tokenised data");
  result.block = std::move(block);
  return result;
}

}  // namespace serval
