#include "base/file.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "support/test_data.h"

namespace serval {
namespace {

TEST(File, AtomicFileLeavesNothingWithoutCommit) {
  const std::string folder = testing::scratch_directory();
  { AtomicFile(join_path(folder, "a")).write("half"); }
  EXPECT_TRUE(list_directory(folder).empty());
  write_file_atomically(join_path(folder, "a"), "whole");
  EXPECT_EQ(read_file(join_path(folder, "a")), "whole");
}

TEST(File, AtomicDirectoryReplacesTheOldOne) {
  const std::string target = join_path(testing::scratch_directory(), "checkpoint");
  for (const char* text : {"1", "2"}) {
    AtomicDirectory directory(target);
    write_file_atomically(join_path(directory.path(), "f"), text);
    directory.commit();
  }
  EXPECT_EQ(read_file(join_path(target, "f")), "2");
  EXPECT_EQ(list_directory(join_path(target, "..")).size(), 1u);
}

TEST(File, RefusesNamesThatClimb) {
  EXPECT_THROW(safe_join("d", "../x", "index"), UserError);
  EXPECT_THROW(safe_join("d", "/etc/passwd", "index"), UserError);
  EXPECT_EQ(safe_join("d", "a/b", "index"), "d/a/b");
}

TEST(File, MissingAndTooLargeAreUserErrors) {
  EXPECT_THROW(read_file("/nonexistent/x"), UserError);
  const std::string path = join_path(testing::scratch_directory(), "f");
  write_file_atomically(path, "12345");
  EXPECT_THROW(read_file(path, 4), UserError);
  EXPECT_EQ(MappedFile(path).bytes().size(), 5u);
}

}  // namespace
}  // namespace serval
