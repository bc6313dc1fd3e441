// From what the user wrote to the files of a dataset. `path` is a file, a glob pattern, a directory, or
// org/name in Hugging Face's cache. A directory is read as `datasets` does: by the data_files of its README,
// as saved by save_to_disk(), or by the names of its files (data/train-00000-of-00002.parquet,
// validation.csv, test/a.jsonl); files that name no split are "train".
//
//   const DatasetFiles found = find_dataset_files({.path = "./data", .split = "train[:1%]"});
//   for (const SplitFiles& part : found.parts) use(part.split, part.files);
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/dataset_source.h"
#include "data/split.h"

namespace serval {

// How the source is called in messages: "data [config] train[:1%]".
std::string display_name(const DatasetSource& source);

struct SplitFiles {
  SplitPart split;
  std::vector<std::string> files;  // in order; not empty
};

struct DatasetFiles {
  std::vector<SplitFiles> parts;
  std::string note;  // what was chosen and what was passed over, for the user; may be ""
  // Rows of each split as the dataset itself says, and the file that says it; empty where nothing does.
  std::map<std::string, int64_t> expected_rows{};
  std::string expected_by{};
};

// Throws UserError, with what there is to choose from, where path, configuration or split do not exist.
DatasetFiles find_dataset_files(const DatasetSource& source);

// The parts of the above. -----------------------------------------------------------------------------------

// Which split a file belongs to by its path below the dataset's directory; "" where it names none.
std::string split_of_file(std::string_view relative_path);

// Files that the pattern matches, sorted: '*', '?' and [abc] within a name, '**' over directories.
std::vector<std::string> glob_files(const std::string& pattern);
bool glob_matches(std::string_view pattern, std::string_view path);

}  // namespace serval
