// What is kept of each row and of each document costs no memory of the process: a million of them are read,
// stored and packed in a child that may grow by a few MiB alone.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <new>

#include "base/error.h"
#include "data/batch_stream.h"
#include "data/dataset.h"
#include "data/example_file.h"
#include "data_test_tools.h"

namespace serval {
namespace {

constexpr int64_t kDocuments = 1'000'000;

// The address space of a sanitized process is not its own.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kCanLimit = false;
#else
constexpr bool kCanLimit = true;
#endif

int64_t data_bytes() {
  const std::string status = read_file("/proc/self/status");
  const size_t at = status.find("VmData:");
  SERVAL_CHECK(at != std::string::npos);
  return std::stoll(status.substr(at + 7)) * 1024;
}

// Ends this process, a child, with 0 where `work` gets by with `bytes` more memory, mapped files aside, else
// with 3.
template <class Work>
[[noreturn]] void exit_with_limit(int64_t bytes, Work&& work) {
  const rlimit limit{static_cast<rlim_t>(data_bytes() + bytes), RLIM_INFINITY};
  if (::setrlimit(RLIMIT_DATA, &limit) != 0) std::_Exit(2);
  try {
    work();
  } catch (const std::bad_alloc&) {
    std::_Exit(3);
  }
  std::_Exit(0);
}

#define EXPECT_EXIT_CODE(code, bytes, work)                                         \
  do {                                                                              \
    if (!kCanLimit) GTEST_SKIP() << "memory cannot be limited under a sanitizer";   \
    EXPECT_EXIT(exit_with_limit(bytes, work), ::testing::ExitedWithCode(code), ""); \
  } while (false)

// 1 to 7 tokens.
void add_documents(ExampleSink& sink, int64_t count) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.assign(static_cast<size_t>(1 + i * 5 % 7), static_cast<int32_t>(i % 1000));
    sink.add(ids, std::vector<bool>(ids.size(), true));
  }
}

Examples stored_documents(int64_t count) {
  MappedFile file = DataCache().get("", ExampleFile::is_whole, [&](CacheWriter& out) {
    ExampleFileWriter writer(out, "");
    add_documents(writer, count);
    writer.finish(Json::object());
  });
  return Examples(ExampleFile::open(std::move(file)).block);
}

TEST(FlatMemory, TheLimitIsFelt) {
  const auto work = [] {
    Examples examples;
    add_documents(examples, kDocuments);
  };
  EXPECT_EXIT_CODE(3, 8 << 20, work);
}

TEST(FlatMemory, StoredAndPacked) {
  const auto work = [] {
    const BatchOptions options{.batch_size = 2, .packing = true, .max_length = 64, .seed = 3};
    BatchStream stream(stored_documents(kDocuments), options);
    for (int i = 0; i < 100; ++i) stream.next();
    if (stream.utilisation() < 0.99) std::_Exit(4);
  };
  EXPECT_EXIT_CODE(0, 12 << 20, work);
}

TEST(FlatMemory, Rows) {
  const std::string path = testing::scratch_directory() + "/many.jsonl";
  {
    AtomicFile file(path);
    std::string text;
    for (int64_t i = 0; i < kDocuments; ++i) text += "{\"a\": 1}\n";
    file.write(text);
    file.commit();
  }
  const auto work = [&] {
    const auto rows = open_dataset(DatasetSource{.path = path}, DataCache());
    if (rows->size() != kDocuments || rows->row(kDocuments - 1).at("a").as_int() != 1) std::_Exit(4);
  };
  EXPECT_EXIT_CODE(0, 4 << 20, work);
}

}  // namespace
}  // namespace serval
