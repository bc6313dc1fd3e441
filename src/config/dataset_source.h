// Where rows come from: an entry of the keys dataset and eval_dataset, which is a path alone or a map of keys
// (dataset_table()). The files behind it are found by data/source.h.
//
//   datasets:
//     - chats.jsonl
//     - path: org/name
//       split: train[:10%]
//       weight: 2
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "config/keys.h"

namespace serval {

struct DatasetSource {
  std::string path;                       // file, directory, pattern, or org/name of Hugging Face's cache
  std::string name{};                     // configuration ("subset") of a dataset that has several
  std::string split{};                    // data/split.h; "" is train
  std::vector<std::string> data_files{};  // of a directory: these files or patterns alone
  std::string format{};                   // json, csv, tsv, text, parquet, arrow; "" is told from the files
  std::string sample_by = "line";         // of text: line, paragraph, document
  std::string delimiter{};                // of CSV; "" is a comma, in .tsv files a tab
  std::optional<double> weight{};         // share of the rows of a mix; unset: all of its rows
  bool held_out = false;       // for evaluation: where no split is named, test or validation is taken
  Json rest = Json::object();  // what else the entry says: how its rows are to be read
  friend bool operator==(const DatasetSource&, const DatasetSource&) = default;
};

// The keys of an entry that is a map.
const KeyTable& dataset_table();

// Of a converted value of Kind::datasets: a list of texts and objects.
std::vector<DatasetSource> dataset_sources(const Json& value);

}  // namespace serval
