#include "base/text.h"

#include <gtest/gtest.h>

namespace serval {
namespace {

TEST(Text, NearestName) {
  const std::vector<std::string> keys = {"learning_rate", "lora_r", "lora_alpha", "max_length"};
  EXPECT_EQ(nearest_name("learnign_rate", keys), "learning_rate");
  EXPECT_EQ(nearest_name("lora_aplha", keys), "lora_alpha");
  EXPECT_EQ(nearest_name("zzzzzzzz", keys), "");
}

TEST(Text, HumanNumbers) {
  EXPECT_EQ(human_bytes(312), "312 B");
  EXPECT_EQ(human_bytes(3 << 19), "1.5 MiB");
  EXPECT_EQ(human_duration(7384), "2:03:04");
}

}  // namespace
}  // namespace serval
