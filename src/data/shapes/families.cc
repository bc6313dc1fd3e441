// The table of shapes. A row's columns are compared with each in this order.
#include "data/shapes/shape_family.h"

namespace serval {

const std::vector<ShapeFamily>& shape_families() {
  static const std::vector<ShapeFamily> families = {kTokenisedShape,  kSegmentsShape,
                                                    kStepwiseShape,   kOpenAiPreferenceShape,
                                                    kPreferenceShape, kRankedShape,
                                                    kUnpairedShape,   kSeedTasksShape,
                                                    kMessagesShape,   kPromptCompletionShape,
                                                    kAlpacaShape,     kQuestionAnswerShape,
                                                    kTextShape,       kPromptShape};
  return families;
}

std::vector<std::pair<std::string, std::vector<std::string>>> dataset_shape_names() {
  std::vector<std::pair<std::string, std::vector<std::string>>> names = {{"auto", {}}};
  for (const ShapeFamily& family : shape_families()) names.emplace_back(family.name, family.aliases);
  return names;
}

}  // namespace serval
