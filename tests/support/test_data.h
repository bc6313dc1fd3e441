// Where tests find files: fixtures of the repository, and the optional real data of SERVAL_TEST_DATA
// (else ../shared/data beside the checkout). A test that needs the real data and does not find it skips,
// saying so.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace serval::testing {

inline std::string fixture(const std::string& name) {
  return std::string(SERVAL_SOURCE_DIR) + "/tests/fixtures/" + name;
}

inline std::string test_data(const std::string& name) {
  const char* set = std::getenv("SERVAL_TEST_DATA");
  const std::string root = set != nullptr ? set : std::string(SERVAL_SOURCE_DIR) + "/../shared/data";
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
