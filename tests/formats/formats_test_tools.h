// Files that the tests of formats make by hand, and the one line that a refusal must be.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "support/test_data.h"

namespace serval::testing {

// Length, header and data as they lie in a safetensors file.
inline std::string safetensors_bytes(std::string_view header, std::string_view data = {}) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  return bytes.append(header).append(data);
}

inline std::string write_scratch(const std::string& directory, const std::string& name,
                                 std::string_view bytes) {
  const std::string path = join_path(directory, name);
  write_file_atomically(path, bytes);
  return path;
}

// The message of the UserError that `action` throws, or "" where it throws none. One line always.
template <class Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 2000u);
    return message;
  }
  return {};
}

}  // namespace serval::testing

#define EXPECT_REFUSED(action, part)                                         \
  do {                                                                       \
    const std::string message = ::serval::testing::refusal([&] { action; }); \
    EXPECT_NE(message, "") << "accepted";                                    \
    EXPECT_NE(message.find(part), std::string::npos) << message;             \
  } while (false)
