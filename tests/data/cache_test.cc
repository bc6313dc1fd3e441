// The cache under two processes, damage and its limit; tokenised data in files.
#include "data/cache.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <random>
#include <thread>

#include "data/example_file.h"
#include "data/mix.h"
#include "data_test_tools.h"

namespace serval {
namespace {

using testing::error_of;
using testing::scratch_directory;

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

bool always(const MappedFile&) {
  return true;
}

struct Counted {
  int made = 0;
  std::string get(const DataCache& cache, const std::string& name, const std::string& content,
                  const DataCache::IsWhole& is_whole = always) {
    const MappedFile file = cache.get(name, is_whole, [&](CacheWriter& out) {
      ++made;
      out.write(content);
    });
    return std::string(text_of(file));
  }
};

TEST(DataCache, MadeOnceAndFoundAgain) {
  const DataCache cache({.directory = scratch_directory() + "/a/b"});
  Counted counted;
  EXPECT_EQ(counted.get(cache, "x", "hello"), "hello");
  EXPECT_EQ(counted.get(cache, "x", "other"), "hello");
  EXPECT_EQ(counted.made, 1);
  EXPECT_EQ(list_directory(cache.directory()), std::vector<std::string>{"x.data"});
  const auto is_other = [](const MappedFile& file) { return text_of(file) == "other"; };
  EXPECT_EQ(counted.get(cache, "x", "other", is_other), "other");
  EXPECT_EQ(counted.made, 2);
}

TEST(DataCache, WithoutADirectoryNothingIsKept) {
  Counted counted;
  EXPECT_EQ(counted.get(DataCache(), "x", "a"), "a");
  EXPECT_EQ(counted.get(DataCache(), "x", "b"), "b");
}

TEST(DataCache, AFailureLeavesNothing) {
  const DataCache cache({.directory = scratch_directory()});
  EXPECT_HAS(error_of([&] {
               cache.get("x", always, [](CacheWriter& out) {
                 out.write(std::string_view("half"));
                 fail("no luck");
               });
             }),
             "no luck");
  EXPECT_TRUE(list_directory(cache.directory()).empty());
}

TEST(DataCache, TheOldestGoesFirst) {
  const DataCache cache({.directory = scratch_directory(), .limit = 250});
  Counted counted;
  const std::string content(100, 'x');
  const auto wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  for (const char* name : {"a", "b"}) counted.get(cache, name, content), wait();
  counted.get(cache, "a", content), wait();  // used again: b is older now
  counted.get(cache, "c", content);
  EXPECT_EQ(list_directory(cache.directory()), (std::vector<std::string>{"a.data", "c.data"}));
  wait();
  counted.get(cache, "huge", std::string(1000, 'y'));  // what was just made stays
  EXPECT_EQ(list_directory(cache.directory()), std::vector<std::string>{"huge.data"});
}

TEST(DataCache, TwoProcessesMakeOneFile) {
  const std::string directory = scratch_directory();
  std::vector<pid_t> children;
  for (int child = 0; child < 4; ++child) {
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      int made = 0;
      const MappedFile file = DataCache({.directory = directory}).get("x", always, [&](CacheWriter& out) {
        ++made;
        for (int i = 0; i < 10; ++i) {
          out.write(std::string(1000, static_cast<char>('a' + i)));
          std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
      });
      const bool whole = file.bytes().size() == 10000 && text_of(file)[9999] == 'j';
      ::_exit(!whole ? 99 : made);
    }
    children.push_back(pid);
  }
  int made = 0;
  for (const pid_t pid : children) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_NE(WEXITSTATUS(status), 99);
    made += WEXITSTATUS(status);
  }
  EXPECT_EQ(made, 1);
  EXPECT_EQ(list_directory(directory), std::vector<std::string>{"x.data"});
}

// Random documents, the same for the same seed.
void fill(ExampleSink& sink, int documents, bool weighted) {
  std::mt19937 random(11);
  for (int i = 0; i < documents; ++i) {
    const size_t length = 1 + random() % 150;
    std::vector<int32_t> ids;
    std::vector<bool> trained;
    std::vector<float> weights;
    for (size_t token = 0; token < length; ++token) {
      ids.push_back(static_cast<int32_t>(random() % 50000));
      trained.push_back(random() % 3 != 0);
      weights.push_back(random() % 5 == 0 ? 0.5f : 1.0f);
    }
    sink.add(ids, trained, weighted ? std::span<const float>(weights) : std::span<const float>());
  }
}

void expect_equal(const Examples& a, const Examples& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(a.num_tokens(), b.num_tokens());
  EXPECT_EQ(a.num_labels(), b.num_labels());
  EXPECT_EQ(a.weighted(), b.weighted());
  for (int64_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::vector(a.ids(i).begin(), a.ids(i).end()), std::vector(b.ids(i).begin(), b.ids(i).end()));
    EXPECT_EQ(a.labels(i), b.labels(i));
    for (int64_t token = 0; token < a.length(i); ++token) {
      ASSERT_EQ(a.trained(i, token), b.trained(i, token)) << i << " " << token;
      if (a.trained(i, token)) {
        ASSERT_EQ(a.weight(i, token), b.weight(i, token));
      }
    }
  }
}

MappedFile tokens_of(const DataCache& cache, int documents, bool weighted) {
  return cache.get("t", ExampleFile::is_whole, [&](CacheWriter& out) {
    ExampleFileWriter writer(out, cache.directory());
    fill(writer, documents, weighted);
    Json note = Json::object();
    note.set("hello", Json("there"));
    writer.finish(note);
  });
}

TEST(ExampleFile, EqualsMemory) {
  for (const bool weighted : {false, true}) {
    for (const int documents : {1, 2, 7, 400}) {
      const DataCache cache({.directory = scratch_directory()});
      Examples memory;
      fill(memory, documents, weighted);
      const ExampleFile file = ExampleFile::open(tokens_of(cache, documents, weighted));
      EXPECT_EQ(file.note.at("hello").as_string(), "there");
      expect_equal(Examples(file.block), memory);
      file.block->forget();
      expect_equal(Examples(file.block), memory);
    }
  }
}

TEST(ExampleFile, DamageIsSeenAndMended) {
  const DataCache cache({.directory = scratch_directory()});
  Examples memory;
  fill(memory, 50, false);
  tokens_of(cache, 50, false);
  const std::string path = cache.directory() + "/t.data";
  const std::string whole = read_file(path);
  const auto is_whole = [&](const std::string& content) {
    write_file_atomically(path, content);
    return ExampleFile::is_whole(MappedFile(path));
  };
  EXPECT_TRUE(is_whole(whole));
  for (size_t at = 0; at < whole.size(); at += at < 200 ? 1 : 97) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    EXPECT_FALSE(is_whole(damaged)) << at;
    EXPECT_FALSE(is_whole(whole.substr(0, at))) << at;
  }
  EXPECT_FALSE(is_whole(whole + "x"));
  expect_equal(Examples(ExampleFile::open(tokens_of(cache, 50, false)).block), memory);  // made again
  EXPECT_EQ(read_file(path), whole);
}

TEST(Examples, AppendSharesAndDrawsPick) {
  Examples a, b;
  fill(a, 10, false);
  fill(b, 20, false);
  Examples both = a;
  both.append(b);
  EXPECT_EQ(both.size(), 30);
  EXPECT_EQ(both.ids(15).data(), b.ids(5).data());  // not copied
  const int64_t before = a.size();
  both.add(std::vector<int32_t>{1, 2}, {false, true});
  EXPECT_EQ(a.size(), before);
  EXPECT_EQ(both.length(30), 2);

  Examples drawn;
  drawn.append_draws(a, 23, philox_key(1, "mix", 0, 0));
  EXPECT_EQ(drawn.size(), 23);
  std::map<const int32_t*, int> times;
  int64_t tokens = 0, labels = 0;
  for (int64_t i = 0; i < 23; ++i) {
    ++times[drawn.ids(i).data()];
    tokens += drawn.length(i);
    labels += drawn.labels(i);
  }
  EXPECT_EQ(drawn.num_tokens(), tokens);
  EXPECT_EQ(drawn.num_labels(), labels);
  EXPECT_EQ(times.size(), 10u);
  for (const auto& [ids, count] : times) EXPECT_TRUE(count == 2 || count == 3);

  Examples some, again;
  some.append_draws(both, 7, philox_key(1, "mix", 0, 0));
  again.append_draws(both, 7, philox_key(1, "mix", 0, 0));
  EXPECT_EQ(some.size(), 7);
  expect_equal(some, again);
}

TEST(Mix, Counts) {
  const std::vector<int64_t> sizes = {1000, 10, 500};
  const std::vector<double> weights = {3, 1, 1};
  using Counts = std::vector<int64_t>;
  EXPECT_EQ(mix_counts(sizes, weights, MixStrategy::concat), sizes);
  EXPECT_EQ(mix_counts(sizes, weights, MixStrategy::interleave_under), (Counts{30, 10, 10}));
  EXPECT_EQ(mix_counts(sizes, weights, MixStrategy::interleave_over), (Counts{1500, 500, 500}));
  EXPECT_EQ(mix_counts(Counts{7}, std::vector<double>{0.1}, MixStrategy::interleave_over), Counts{7});
  EXPECT_EQ(mix_counts(Counts{1000, 1}, std::vector<double>{1e-6, 1}, MixStrategy::interleave_under),
            (Counts{1, 1}));
  EXPECT_HAS(error_of([] {
               mix_counts(Counts{1000000000, 1}, std::vector<double>{1e-6, 1}, MixStrategy::interleave_over);
             }),
             "bring them nearer");
}

}  // namespace
}  // namespace serval
