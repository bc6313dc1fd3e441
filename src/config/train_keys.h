// The rows of the training keys: a key and the field of TrainConfig that takes its value. For this folder
// alone.
#pragma once
#include <variant>
#include <vector>

#include "config/train_config.h"

namespace serval {

struct Unbound {};  // a key that only resolve_train() reads

using Field = std::variant<Unbound, bool TrainConfig::*, int64_t TrainConfig::*, double TrainConfig::*,
                           std::string TrainConfig::*, std::optional<bool> TrainConfig::*,
                           std::optional<int64_t> TrainConfig::*, std::optional<double> TrainConfig::*,
                           std::vector<std::string> TrainConfig::*, std::vector<DatasetSource> TrainConfig::*,
                           std::vector<int64_t> TrainConfig::*, TrainConfig::Patterns TrainConfig::*,
                           TrainConfig::Names TrainConfig::*>;

struct TrainRow {
  Key key;
  Field field;
};

const std::vector<TrainRow>& train_rows();

}  // namespace serval
