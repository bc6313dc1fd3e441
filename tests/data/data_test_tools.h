// Small helpers of the data tests.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "support/test_data.h"

namespace serval::testing {

inline std::string write_dataset(std::string_view content, const std::string& name = "rows.jsonl") {
  const std::string path = join_path(scratch_directory(), name);
  write_file_atomically(path, content);
  return path;
}

// The message of the UserError that f() ends in; fails the test where there is none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no UserError was thrown";
  return {};
}

inline std::vector<int32_t> integers(const Json& json) {
  std::vector<int32_t> result;
  for (const Json& value : json.as_array()) result.push_back(static_cast<int32_t>(value.as_int()));
  return result;
}

#define EXPECT_HAS(text, part) \
  EXPECT_NE(std::string(text).find(part), std::string::npos) << "expected '" << (part) << "' in: " << (text)

}  // namespace serval::testing
