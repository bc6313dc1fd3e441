#include "formats/model_source.h"

#include <cstdlib>
#include <map>
#include <optional>

#include "formats/formats_test_tools.h"

namespace serval {
namespace {

using testing::scratch_directory;
using testing::write_scratch;

// A cache as huggingface_hub leaves it, and the environment as it was afterwards.
class ModelSource : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = scratch_directory();
    for (const char* name : kVariables) {
      const char* value = std::getenv(name);
      before_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      ::unsetenv(name);
    }
  }
  void TearDown() override {
    for (const auto& [name, value] : before_)
      if (value)
        ::setenv(name.c_str(), value->c_str(), 1);
      else
        ::unsetenv(name.c_str());
  }

  // Returns the snapshot's folder.
  std::string make_cached(const std::string& cache, const std::string& folder, const std::string& commit,
                          const std::string& reference) {
    const std::string repository = join_path(cache, folder), snapshot = repository + "/snapshots/" + commit;
    make_directories(snapshot);
    make_directories(std::filesystem::path(repository + "/refs/" + reference).parent_path());
    write_scratch(repository + "/refs", reference, commit + "\n");
    return snapshot;
  }

  static constexpr const char* kVariables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                               "XDG_CACHE_HOME", "HOME"};
  std::string directory_;
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(ModelSource, PathsComeBackAsTheyAre) {
  EXPECT_EQ(resolve_model(directory_), directory_);
  const std::string file = write_scratch(directory_, "x.gguf", "GGUF");
  EXPECT_EQ(resolve_model(file), file);
}

TEST_F(ModelSource, TheCacheIsWhereHuggingFaceHasIt) {
  const std::string repository = "models--org--name";
  const std::string first =
      make_cached(directory_ + "/home/.cache/huggingface/hub", repository, "c1", "main");
  ::setenv("HOME", (directory_ + "/home").c_str(), 1);
  EXPECT_EQ(resolve_model("org/name"), first);
  const std::string second = make_cached(directory_ + "/xdg/huggingface/hub", repository, "c2", "main");
  ::setenv("XDG_CACHE_HOME", (directory_ + "/xdg").c_str(), 1);
  EXPECT_EQ(resolve_model("org/name"), second);
  const std::string third = make_cached(directory_ + "/hf/hub", repository, "c3", "main");
  ::setenv("HF_HOME", (directory_ + "/hf").c_str(), 1);
  EXPECT_EQ(resolve_model("org/name"), third);
  const std::string fourth = make_cached(directory_ + "/hub", repository, "c4", "main");
  ::setenv("HF_HUB_CACHE", (directory_ + "/hub").c_str(), 1);
  EXPECT_EQ(resolve_model("org/name"), fourth);
}

TEST_F(ModelSource, RevisionsAreBranchesTagsOrCommits) {
  ::setenv("HF_HUB_CACHE", directory_.c_str(), 1);
  const std::string main = make_cached(directory_, "models--org--name-2.5", "aaa", "main");
  const std::string pull = make_cached(directory_, "models--org--name-2.5", "bbb", "refs/pr/1");
  EXPECT_EQ(resolve_model("org/name-2.5"), main);
  EXPECT_EQ(resolve_model("org/name-2.5@main"), main);
  EXPECT_EQ(resolve_model("org/name-2.5@refs/pr/1"), pull);
  EXPECT_EQ(resolve_model("org/name-2.5@bbb"), pull);
  const std::string old = make_cached(directory_, "models--gpt2", "ccc", "main");
  EXPECT_EQ(resolve_model("gpt2"), old);
}

TEST_F(ModelSource, WhatIsNotThereSaysHowToGetIt) {
  ::setenv("HF_HUB_CACHE", directory_.c_str(), 1);
  EXPECT_REFUSED(resolve_model("org/name"), "get it with: hf download org/name");
  EXPECT_REFUSED(resolve_model("org/name@v2"), "hf download org/name --revision v2");
  EXPECT_REFUSED(resolve_model("org/name"), directory_);
  for (const char* path : {"/org/name", "./model", "../model", "~/model", "a/b/c", "model/", "out dir"})
    EXPECT_REFUSED(resolve_model(path), "no such directory; expected");
  EXPECT_REFUSED(resolve_model("gpt2"), "no model of this name in the Hugging Face cache");
  EXPECT_REFUSED(resolve_model(""), "no model is given");
  // Names cannot leave the cache.
  for (const char* name : {"org/name@../../x", "org/name@/etc", "org/name@"})
    EXPECT_REFUSED(resolve_model(name), "leaves its directory");
  make_cached(directory_, "models--org--evil", "c", "main");
  write_scratch(directory_ + "/models--org--evil/refs", "main", "../../..");
  EXPECT_REFUSED(resolve_model("org/evil"), "leaves its directory");
}

}  // namespace
}  // namespace serval
