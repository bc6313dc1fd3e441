#include "data/source.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "data/dataset_card.h"
#include "data/readers/unpack.h"

namespace serval {
namespace {

using FilesBySplit = std::map<std::string, std::vector<std::string>>;

constexpr int64_t kMaxDescriptionBytes = int64_t{64} << 20;

std::string extension_of(const std::string& path) {
  const std::string name = without_compression(base_name(path));
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(dot + 1);
}

bool is_data_file(const std::string& path) {
  static const std::vector<std::string> kExtensions = {"jsonl", "json",    "ndjson", "csv",    "tsv",
                                                       "txt",   "parquet", "arrow",  "feather"};
  const std::string name = base_name(path);
  if (name.starts_with('.') || name.starts_with('_')) return false;
  for (const char* other : {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json",
                            "requirements.txt", "LICENSE.txt", "README.txt"})
    if (name == other) return false;
  return std::find(kExtensions.begin(), kExtensions.end(), extension_of(path)) != kExtensions.end();
}

std::vector<std::string> data_files_below(const std::string& directory) {
  std::vector<std::string> files;
  for (const std::string& path : glob_files(join_path(directory, "**")))
    if (is_data_file(path)) files.push_back(path);
  return files;
}

std::string below(const std::string& directory, const std::string& path) {
  return starts_with(path, directory) ? std::string(trim(path.substr(directory.size() + 1))) : path;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// "train" of "train-00000-of-00002.parquet" or "train-00000-of-00002-1a2b.parquet".
std::string split_of_shard(std::string_view name) {
  const size_t of = name.find("-of-");
  if (of == std::string_view::npos || of < 7) return {};
  const std::string_view number = name.substr(of - 5, 5);
  const std::string_view count = name.substr(of + 4).substr(0, 5);
  const auto digits = [](std::string_view text) { return std::all_of(text.begin(), text.end(), is_digit); };
  if (!digits(number) || name[of - 6] != '-' || count.size() != 5 || !digits(count)) return {};
  return std::string(name.substr(0, of - 6));
}

// "of train-?????-of-00003 there are 2 files": a download that was not finished.
std::string missing_shards(const std::vector<std::string>& files) {
  std::map<std::string, int64_t> count_of_set;
  for (const std::string& file : files) {
    const std::string name = base_name(file);
    const std::string split = split_of_shard(name);
    if (!split.empty()) ++count_of_set[split + name.substr(split.size() + 6, 9)];
  }
  for (const auto& [set, count] : count_of_set)
    if (const int64_t all = std::stoll(set.substr(set.size() - 5)); count < all)
      return fmt::format("of the {} files {}-?????{} only {} are there", all, set.substr(0, set.size() - 9),
                         set.substr(set.size() - 9), count);
  return {};
}

// What each word in a file's name means.
const std::vector<std::pair<std::string, std::vector<std::string>>>& split_words() {
  static const std::vector<std::pair<std::string, std::vector<std::string>>> kWords = {
      {"train", {"train", "training"}},
      {"validation", {"validation", "valid", "val", "dev"}},
      {"test", {"test", "testing", "eval", "evaluation"}}};
  return kWords;
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The word stands alone: no letter touches it.
bool holds_word(std::string_view text, std::string_view word) {
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_letter(text[at - 1])) && (end == text.size() || !is_letter(text[end]))) return true;
  }
  return false;
}

std::string split_of_name(std::string_view name) {
  for (const auto& [split, words] : split_words())
    for (const std::string& word : words)
      if (holds_word(name, word)) return split;
  return {};
}

std::string names_of(const FilesBySplit& splits) {
  std::vector<std::string> names;
  for (const auto& [name, files] : splits) names.push_back(name);
  return join(names, ", ");
}

FilesBySplit by_names(const std::string& directory, const std::vector<std::string>& files,
                      std::vector<std::string>& without_split) {
  FilesBySplit splits;
  for (const std::string& file : files) {
    const std::string split = split_of_file(below(directory, file));
    if (split.empty())
      without_split.push_back(file);
    else
      splits[split].push_back(file);
  }
  if (splits.empty() && !without_split.empty()) splits["train"] = std::exchange(without_split, {});
  return splits;
}

std::vector<std::string> expand(const std::string& directory, const std::string& pattern,
                                const std::string& where) {
  const std::string path = safe_join(directory, pattern, where);
  if (directory_exists(path)) return data_files_below(path);
  std::vector<std::string> files = glob_files(path);
  std::erase_if(files, [](const std::string& file) { return !is_data_file(file); });
  if (files.empty()) fail("{}: {} matches no data file of {}", where, in_quotes(pattern), directory);
  return files;
}

class Directory {
 public:
  Directory(const DatasetSource& source, std::string path)
      : source_(source), path_(std::move(path)), card_(DatasetCard::read(path_)) {}

  // What the dataset says of its own size.
  void add_sizes(const FilesBySplit& splits, DatasetFiles& found) const {
    if (!source_.data_files.empty()) return;
    for (const auto& [split, files] : splits)
      if (const auto rows = card_.rows(source_.name, split)) found.expected_rows[split] = *rows;
    found.expected_by = card_.sizes_path;
  }

  FilesBySplit splits(std::string& note) {
    if (!source_.data_files.empty()) return listed_files(note);
    if (file_exists(join_path(path_, "dataset_dict.json"))) return saved_dictionary();
    if (file_exists(join_path(path_, "state.json"))) return {{"train", saved_files(path_)}};
    if (!card_.configs.empty()) return of_card(note);
    return by_layout(note);
  }

 private:
  FilesBySplit listed_files(std::string& note) {
    std::vector<std::string> files;
    for (const std::string& pattern : source_.data_files)
      for (std::string& file : expand(path_, pattern, source_.path)) files.push_back(std::move(file));
    return with_note(files, note);
  }

  FilesBySplit with_note(const std::vector<std::string>& files, std::string& note) {
    std::vector<std::string> rest;
    FilesBySplit splits = by_names(path_, files, rest);
    if (!rest.empty())
      note = fmt::format("{} files that name no split are passed over, such as {}", rest.size(),
                         below(path_, rest[0]));
    if (const std::string missing = missing_shards(files); !missing.empty())
      note += (note.empty() ? "" : "; ") + missing;
    return splits;
  }

  // datasets' save_to_disk().
  std::vector<std::string> saved_files(const std::string& directory) const {
    const std::string path = join_path(directory, "state.json");
    const Json state = Json::parse(read_file(path, kMaxDescriptionBytes), path);
    std::vector<std::string> files;
    try {
      for (const Json& file : state.at("_data_files").as_array())
        files.push_back(safe_join(directory, file.at("filename").as_string(), path));
    } catch (const UserError& error) {
      fail("{}: {}; expected what datasets' save_to_disk() writes", path, error.what());
    }
    if (files.empty()) fail("{}: lists no data files", path);
    return files;
  }

  FilesBySplit saved_dictionary() const {
    const std::string path = join_path(path_, "dataset_dict.json");
    const Json json = Json::parse(read_file(path, kMaxDescriptionBytes), path);
    FilesBySplit splits;
    for (const Json& name : json.at("splits").as_array())
      splits[name.as_string()] = saved_files(safe_join(path_, name.as_string(), path));
    return splits;
  }

  FilesBySplit of_card(std::string& note) {
    const DatasetCard::Config* chosen = nullptr;
    std::vector<std::string> names;
    for (const DatasetCard::Config& config : card_.configs) {
      names.push_back(config.name);
      const bool wanted =
          source_.name.empty() ? config.is_default || card_.configs.size() == 1 : config.name == source_.name;
      if (wanted && chosen == nullptr) chosen = &config;
    }
    if (chosen == nullptr && source_.name.empty())
      fail("{}: has several configurations; choose one with dataset_config: {}", source_.path,
           join(names, ", "));
    if (chosen == nullptr)
      fail("{}: has no configuration '{}'; there are: {}", source_.path, source_.name, join(names, ", "));
    FilesBySplit splits;
    for (const auto& [split, patterns] : chosen->splits) {
      std::vector<std::string> files;
      for (const std::string& pattern : patterns)
        for (std::string& file : expand(path_, pattern, card_.path)) files.push_back(std::move(file));
      if (split.empty()) return with_note(files, note);
      auto& all = splits[split];
      all.insert(all.end(), files.begin(), files.end());
    }
    if (splits.empty()) return by_layout(note);
    return splits;
  }

  FilesBySplit by_layout(std::string& note) {
    // The only configuration that dataset_infos.json names is the whole directory.
    const bool whole = source_.name.empty() || source_.name == "default" ||
                       (card_.sizes.size() == 1 && card_.sizes.contains(source_.name));
    const std::string subset = whole ? path_ : safe_join(path_, source_.name, source_.path);
    if (!directory_exists(subset))
      fail("{}: has no configuration '{}' (neither README.md nor a folder names it)", source_.path,
           source_.name);
    path_ = subset;
    const auto files = data_files_below(subset);
    if (files.empty())
      fail("{}: holds no data files (.jsonl, .json, .csv, .tsv, .txt, .parquet, .arrow; also .gz and .zst)",
           subset);
    return with_note(files, note);
  }

  const DatasetSource& source_;
  std::string path_;
  DatasetCard card_;
};

// The newest snapshot of org/name in Hugging Face's cache; "" where there is none.
std::string hub_snapshot(const std::string& name) {
  const auto set = [](const char* variable) -> std::string {
    const char* value = std::getenv(variable);
    return value == nullptr ? "" : value;
  };
  std::string hub = set("HF_HUB_CACHE");
  if (hub.empty() && !set("HF_HOME").empty()) hub = join_path(set("HF_HOME"), "hub");
  if (hub.empty()) hub = join_path(set("HOME"), ".cache/huggingface/hub");
  const std::string folder = join_path(hub, "datasets--" + replace_all(name, "/", "--"));
  const std::string snapshots = join_path(folder, "snapshots");
  if (!directory_exists(snapshots)) return {};
  const std::string main = join_path(folder, "refs/main");
  if (file_exists(main)) {
    const std::string commit(trim(read_file(main, 4096)));
    if (commit.find('/') == std::string::npos && directory_exists(join_path(snapshots, commit)))
      return join_path(snapshots, commit);
  }
  const auto commits = list_directory(snapshots);
  return commits.empty() ? std::string() : join_path(snapshots, commits.back());
}

bool is_hub_name(const std::string& path) {
  const size_t slash = path.find('/');
  return slash != std::string::npos && slash > 0 && path.find('/', slash + 1) == std::string::npos &&
         path[0] != '.' && slash + 1 < path.size();
}

}  // namespace

std::string split_of_file(std::string_view relative_path) {
  const size_t slash = relative_path.rfind('/');
  const std::string_view name =
      slash == std::string_view::npos ? relative_path : relative_path.substr(slash + 1);
  if (std::string split = split_of_shard(name); !split.empty()) return split;
  const std::string stem(name.substr(0, name.find('.')));
  if (std::string split = split_of_name(stem); !split.empty()) return split;
  return slash == std::string_view::npos ? std::string() : split_of_name(relative_path.substr(0, slash));
}

std::string display_name(const DatasetSource& source) {
  std::string name = source.path;
  if (!source.name.empty()) name += " (" + source.name + ")";
  if (!source.split.empty()) name += " " + source.split;
  return name;
}

DatasetFiles find_dataset_files(const DatasetSource& source) {
  DatasetFiles result;
  FilesBySplit splits;
  bool only_train = false;  // files by themselves are "train" whatever their names say
  if (file_exists(source.path)) {
    splits["train"] = {source.path};
    only_train = true;
  } else if (directory_exists(source.path)) {
    Directory directory(source, source.path);
    splits = directory.splits(result.note);
    directory.add_sizes(splits, result);
  } else if (source.path.find_first_of("*?[") != std::string::npos) {
    splits["train"] = glob_files(source.path);
    only_train = true;
    if (splits["train"].empty()) fail("{}: no file matches", source.path);
    result.note = fmt::format("{} files match", splits["train"].size());
  } else if (const std::string snapshot = is_hub_name(source.path) ? hub_snapshot(source.path) : "";
             !snapshot.empty()) {
    Directory directory(source, snapshot);
    splits = directory.splits(result.note);
    directory.add_sizes(splits, result);
  } else if (is_hub_name(source.path)) {
    fail(
        "{}: there is no such file or directory, and no such dataset in Hugging Face's cache; get it there "
        "with "
        "`hf download --repo-type dataset {}`",
        source.path, source.path);
  } else {
    fail("{}: there is no such file or directory", source.path);
  }
  if (only_train && !source.name.empty())
    fail("{}: is a file, so it has no configuration '{}'; remove dataset_config", source.path, source.name);

  for (SplitPart& part : parse_split(source.split, display_name(source))) {
    SplitFiles files{part, {}};
    if (source.split.empty() && source.held_out)
      for (const char* name : {"validation", "test"})
        if (splits.contains(name)) files.split.name = part.name = name;
    if (part.name == "all") {
      for (const auto& [name, list] : splits) files.files.insert(files.files.end(), list.begin(), list.end());
    } else if (const auto found = splits.find(part.name); found != splits.end()) {
      files.files = found->second;
    } else if (source.split.empty() && splits.size() == 1) {
      files.files = splits.begin()->second;  // its only split, whatever its name
      files.split.name = splits.begin()->first;
    } else {
      fail("{}: has no split '{}'; it has: {}", source.path, part.name, names_of(splits));
    }
    result.parts.push_back(std::move(files));
  }
  return result;
}

}  // namespace serval
