// What a dataset's directory says of itself: the YAML at the head of its README.md (`configs`,
// `dataset_info`) and the older dataset_infos.json.
//
//   const DatasetCard card = DatasetCard::read("./data");
//   for (const auto& config : card.configs) use(config.name, config.splits);
//   card.rows("default", "train");    // how many the dataset's makers counted, where they say so
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace serval {

struct DatasetCard {
  // A configuration ("subset") and its files: patterns below the directory for each split; the split ""
  // leaves it to the names of the files.
  struct Config {
    std::string name;
    bool is_default = false;
    std::vector<std::pair<std::string, std::vector<std::string>>> splits;
  };

  std::string path;  // of README.md, for messages
  std::vector<Config> configs;
  // Rows of each split of each configuration, and which file says so.
  std::map<std::string, std::map<std::string, int64_t>> sizes;
  std::string sizes_path;

  // Empty where there are no such files, or where they are something else.
  static DatasetCard read(const std::string& directory);

  // Of the configuration, or of the only one there is where `config` is "" or "default".
  std::optional<int64_t> rows(const std::string& config, const std::string& split) const;
};

}  // namespace serval
