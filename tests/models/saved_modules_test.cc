// Adapters that PEFT wrote with modules_to_save, on a base with a tied head: PEFT makes a copy of each module
// that it saves, so that embeddings and head may come apart.
#include <gtest/gtest.h>

#include "support/fixture_tensors.h"
#include "support/model_logits.h"
#include "support/test_data.h"

namespace serval {
namespace {

using testing::fixture;

std::vector<double> flat(const Json& rows) {
  std::vector<double> values;
  for (const Json& row : rows.as_array())
    for (const Json& value : row.as_array()) values.push_back(value.as_double());
  return values;
}

class SavedModules : public ::testing::TestWithParam<const char*> {};

TEST_P(SavedModules, GiveTheLogitsOfPeft) {
  const std::string path = fixture("models/vocabulary/expected.json");
  const Json expected = Json::parse(read_file(path), path);
  const std::string name = GetParam();
  const Pretrained model =
      Pretrained::open({.model = fixture("models/llama_tied"),
                        .adapter = name == "base_logits" ? "" : fixture("models/vocabulary/" + name)});
  EXPECT_EQ(model.config().tie_word_embeddings, name == "base_logits" || name == "norm" || name == "rows");
  testing::Documents documents(1);
  for (const Json& id : expected.at("input_ids").as_array())
    documents[0].push_back(static_cast<int32_t>(id.as_int()));
  const auto device = make_cpu_device();
  const std::vector<double> theirs =
      flat(name == "base_logits" ? expected.at(name) : expected.at("adapters").at(name));
  const auto check = [&](const std::vector<float>& ours) {
    ASSERT_EQ(ours.size(), theirs.size());
    double difference = 0, size = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
      const double d = static_cast<double>(ours[i]) - theirs[i];
      difference += d * d, size += theirs[i] * theirs[i];
    }
    // Both sides compute in f32 and round in other places.
    EXPECT_LT(std::sqrt(difference / size), 1e-5);
  };
  check(testing::forward_logits(model.config(), model.network_options(), documents,
                                testing::weights_of(model), *device));
  check(testing::cached_logits(model.config(), model.network_options(), documents, testing::weights_of(model),
                               *device));
}

INSTANTIATE_TEST_SUITE_P(Adapters, SavedModules,
                         ::testing::Values("base_logits", "both", "embeddings", "norm", "rows"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace serval
