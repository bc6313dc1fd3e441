#include "data/dataset_card.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "config/yaml.h"

namespace serval {
namespace {

constexpr int64_t kMaxBytes = int64_t{64} << 20;

using Members = std::vector<std::pair<std::string, RawValue>>;

const RawValue* member(const RawValue& map, std::string_view name) {
  for (size_t i = 0; i < map.names.size(); ++i)
    if (map.names[i] == name) return &map.items[i];
  return nullptr;
}

bool is_map(const RawValue& value) {
  return value.form == RawValue::Form::map;
}

std::vector<std::string> texts_of(const RawValue& value, const std::string& directory) {
  std::vector<std::string> texts;
  const auto add = [&](const RawValue& one) {
    texts.push_back(directory.empty() ? one.text : join_path(directory, one.text));
  };
  if (value.form == RawValue::Form::scalar) {
    add(value);
  } else {
    for (const RawValue& item : value.items) add(item);
  }
  return texts;
}

DatasetCard::Config config_of(const RawValue& item) {
  DatasetCard::Config config;
  const RawValue *name = member(item, "config_name"), *files = member(item, "data_files"),
                 *preferred = member(item, "default"), *below = member(item, "data_dir");
  const std::string directory = below == nullptr ? "" : below->text;
  config.name = name == nullptr ? "default" : name->text;
  config.is_default = config.name == "default" || (preferred != nullptr && preferred->text == "true");
  if (files == nullptr) {
    if (!directory.empty()) config.splits.push_back({"", {join_path(directory, "**")}});
  } else if (is_map(*files)) {
    for (size_t i = 0; i < files->names.size(); ++i)
      config.splits.push_back({files->names[i], texts_of(files->items[i], directory)});
  } else if (files->form == RawValue::Form::list && !files->items.empty() && is_map(files->items[0])) {
    for (const RawValue& one : files->items) {
      const RawValue *split = member(one, "split"), *paths = member(one, "path");
      if (paths != nullptr)
        config.splits.push_back({split == nullptr ? "train" : split->text, texts_of(*paths, directory)});
    }
  } else {
    config.splits.push_back({"", texts_of(*files, directory)});
  }
  return config;
}

std::optional<int64_t> count_of(const std::string& text) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return std::stoll(text);
}

// One `dataset_info`: {config_name, splits: [{name, num_examples}]}.
void read_info(const RawValue& info, DatasetCard& card) {
  const RawValue *name = member(info, "config_name"), *splits = member(info, "splits");
  if (splits == nullptr || splits->form != RawValue::Form::list) return;
  auto& sizes = card.sizes[name == nullptr ? "default" : name->text];
  for (const RawValue& split : splits->items) {
    const RawValue *split_name = member(split, "name"), *rows = member(split, "num_examples");
    if (split_name == nullptr || rows == nullptr) continue;
    if (const auto count = count_of(rows->text)) sizes[split_name->text] = *count;
  }
}

// The YAML between the two lines "---" that a card begins with.
void read_readme(DatasetCard& card) {
  const std::string text = replace_all(read_file(card.path, kMaxBytes), "\r\n", "\n");
  const size_t end = starts_with(text, "---\n") ? text.find("\n---", 4) : std::string::npos;
  if (end == std::string::npos) return;
  Members members;
  try {
    members = parse_yaml(std::string_view(text).substr(4, end - 3), card.path);
  } catch (const UserError&) {
    return;  // a card that is not YAML says nothing about files
  }
  for (const auto& [key, value] : members) {
    if (key == "configs" && value.form == RawValue::Form::list) {
      for (const RawValue& item : value.items)
        if (is_map(item)) card.configs.push_back(config_of(item));
    } else if (key == "dataset_info") {
      card.sizes_path = card.path;
      if (is_map(value)) read_info(value, card);
      for (const RawValue& item : value.items)
        if (is_map(item)) read_info(item, card);
    }
  }
}

// {"CONFIG": {"splits": {"train": {"num_examples": 10}}}}, which cards have replaced.
void read_infos(const std::string& path, DatasetCard& card) {
  Json infos;
  try {
    infos = Json::parse(read_file(path, kMaxBytes), path);
  } catch (const UserError&) {
    return;
  }
  if (!infos.is_object()) return;
  card.sizes_path = path;
  for (const auto& [config, info] : infos.as_object()) {
    const Json* splits = info.is_object() ? info.find("splits") : nullptr;
    if (splits == nullptr || !splits->is_object()) continue;
    for (const auto& [split, said] : splits->as_object()) {
      const Json* rows = said.is_object() ? said.find("num_examples") : nullptr;
      if (rows != nullptr && rows->is_int() && rows->as_int() >= 0)
        card.sizes[config][split] = rows->as_int();
    }
  }
}

}  // namespace

DatasetCard DatasetCard::read(const std::string& directory) {
  DatasetCard card;
  card.path = join_path(directory, "README.md");
  if (file_exists(card.path)) read_readme(card);
  const std::string infos = join_path(directory, "dataset_infos.json");
  if (card.sizes.empty() && file_exists(infos)) read_infos(infos, card);
  return card;
}

std::optional<int64_t> DatasetCard::rows(const std::string& config, const std::string& split) const {
  auto found = sizes.find(config.empty() ? "default" : config);
  if (found == sizes.end() && (config.empty() || config == "default") && sizes.size() == 1)
    found = sizes.begin();
  if (found == sizes.end()) return std::nullopt;
  const auto rows = found->second.find(split);
  return rows == found->second.end() ? std::nullopt : std::optional<int64_t>(rows->second);
}

}  // namespace serval
