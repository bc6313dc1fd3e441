// Where tests find files: fixtures of the repository, and the optional real data of SERVAL_TEST_DATA
// (else ../shared/data beside the checkout). A test that needs the real data and does not find it skips,
// saying so.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace serval::testing {

// The checkout that the tests were built from; in a package (scripts/package --with-tests) the folder above
// the one that holds this program, which has tests/fixtures and examples at the same places.
inline const std::string& source_directory() {
  static const std::string directory = [] {
    namespace fs = std::filesystem;
    std::error_code error;
    if (fs::is_directory(fs::path(SERVAL_SOURCE_DIR) / "tests/fixtures", error))
      return std::string(SERVAL_SOURCE_DIR);
    return fs::read_symlink("/proc/self/exe", error).parent_path().parent_path().string();
  }();
  return directory;
}

inline std::string fixture(const std::string& name) {
  return source_directory() + "/tests/fixtures/" + name;
}

inline std::string test_data(const std::string& name) {
  const char* set = std::getenv("SERVAL_TEST_DATA");
  const std::string root = set != nullptr ? set : source_directory() + "/../shared/data";
  return root + "/" + name;
}

// A fresh folder of this test, emptied first.
inline std::string scratch_directory() {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string(info->test_suite_name()) + "." + info->name();
  for (char& c : name)
    if (c == '/') c = '_';
  const auto path = std::filesystem::temp_directory_path() / "serval-tests" / name;
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path;
}

}  // namespace serval::testing

#define SERVAL_NEEDS_DATA(name)                                     \
  if (!std::filesystem::exists(::serval::testing::test_data(name))) \
  GTEST_SKIP() << "needs " << name << " of the shared test data (set SERVAL_TEST_DATA to its folder)"
