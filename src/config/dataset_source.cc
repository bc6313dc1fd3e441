#include "config/dataset_source.h"

#include "base/error.h"

namespace serval {
namespace {

std::vector<Key> make_keys() {
  return {
      {.name = "path",
       .meaning = "File, directory, pattern, or org/name in Hugging Face's cache.",
       .origin = "Axolotl",
       .aliases = {"dataset", "file"},
       .required = true},
      {.name = "name",
       .meaning = "Configuration of a dataset that has several.",
       .origin = "Axolotl",
       .aliases = {"config", "subset", "dataset_config"}},
      {.name = "split",
       .meaning = "Split, perhaps sliced: train[:10%], train[100:200]+validation.",
       .origin = "Axolotl",
       .unset = "train"},
      {.name = "data_files",
       .kind = Kind::texts,
       .meaning = "Of a directory, these files or patterns alone.",
       .origin = "Axolotl"},
      {.name = "ds_type",
       .meaning = "Kind of the files.",
       .origin = "Axolotl",
       .aliases = {"file_format"},
       .choices = {"json", "csv", "tsv", "text", "parquet", "arrow"},
       .synonyms = {{"jsonl", "json"}, {"txt", "text"}, {"feather", "arrow"}},
       .unset = "told from names and contents"},
      {.name = "sample_by",
       .meaning = "What a row of a text file is.",
       .origin = "datasets",
       .choices = {"line", "paragraph", "document"},
       .unset = "line"},
      {.name = "delimiter",
       .meaning = "Character between the fields of a CSV file.",
       .origin = "datasets",
       .aliases = {"sep"},
       .unset = "a comma; in .tsv files a tab"},
      {.name = "weight",
       .kind = Kind::number,
       .meaning = "Share of this dataset in a mix, relative to the others' (mix_strategy).",
       .minimum = 0,
       .maximum = 1e6,
       .above_minimum = true,
       .unset = "1 where another has one"},
      {.name = "type",
       .meaning = "Shape of the rows, as dataset_format has it.",
       .origin = "Axolotl",
       .aliases = {"dataset_format", "formatting"},
       .unset = "dataset_format"},
      {.name = "columns",
       .kind = Kind::names,
       .meaning = "What columns mean, as dataset_columns has it.",
       .origin = "LLaMA-Factory",
       .aliases = {"dataset_columns", "message_property_mappings"},
       .unset = "dataset_columns"},
      {.name = "field_messages",
       .meaning = "Column of the messages.",
       .origin = "Axolotl",
       .unset = "told from the columns"},
      {.name = "message_field_training",
       .meaning = "Key of a message that says whether it is trained.",
       .origin = "Axolotl",
       .unset = "weight, loss_weight, train, training"},
      {.name = "message_field_training_detail",
       .meaning = "Key of a message that says which characters of its content are trained.",
       .origin = "Axolotl",
       .unset = "train_detail, training_detail"},
      {.name = "roles_to_train",
       .kind = Kind::texts,
       .meaning = "Loss on what these roles say alone.",
       .origin = "Axolotl",
       .aliases = {"train_on_roles"},
       .unset = "train_on_roles"},
      {.name = "train_on_eos",
       .meaning = "Which end-of-turn tokens are trained.",
       .origin = "Axolotl",
       .aliases = {"train_on_eot"},
       .choices = {"turn", "all", "last", "none"},
       .unset = "train_on_eos of the run"},
      {.name = "text_field",
       .meaning = "Column that holds plain text.",
       .origin = "Serval",
       .aliases = {"field", "dataset_text_field"},
       .unset = "dataset_text_field"},
  };
}

}  // namespace

const KeyTable& dataset_table() {
  static const KeyTable table(make_keys());
  return table;
}

std::vector<DatasetSource> dataset_sources(const Json& value) {
  std::vector<DatasetSource> sources;
  if (value.is_null()) return sources;
  for (const Json& item : value.as_array()) {
    DatasetSource& source = sources.emplace_back();
    if (item.is_string()) {
      source.path = item.as_string();
      continue;
    }
    for (const auto& [name, given] : item.as_object()) {
      if (name == "path")
        source.path = given.as_string();
      else if (name == "name")
        source.name = given.as_string();
      else if (name == "split")
        source.split = given.as_string();
      else if (name == "ds_type")
        source.format = given.as_string();
      else if (name == "sample_by")
        source.sample_by = given.as_string();
      else if (name == "delimiter")
        source.delimiter = given.as_string();
      else if (name == "weight")
        source.weight = given.as_double();
      else if (name == "data_files")
        for (const Json& file : given.as_array()) source.data_files.push_back(file.as_string());
      else
        source.rest.set(name, given);
    }
  }
  return sources;
}

}  // namespace serval
