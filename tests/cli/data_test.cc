// Datasets through the binary: whatever a dataset is kept in, the run is the same; mixes resume exactly; the
// cache changes nothing but time.
#include <zlib.h>

#include <algorithm>

#include "base/error.h"
#include "cli/program.h"
#include "train/checkpoints.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

std::string gzipped(const std::string& text) {
  std::string result(compressBound(text.size()) + 64, '\0');
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(result.data());
  stream.avail_out = static_cast<uInt>(result.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  result.resize(stream.total_out);
  deflateEnd(&stream);
  return result;
}

// Rows [begin, end) of a dataset, as JSONL and as CSV.
std::string text_of(int64_t i) {
  return fmt::format("row {}, \"said\" the {} one\nand went", i, i * i);
}
std::string jsonl(int64_t begin, int64_t end) {
  std::string text;
  for (int64_t i = begin; i < end; ++i) text += fmt::format("{{\"text\": {}}}\n", json_quote(text_of(i)));
  return text;
}
std::string csv(int64_t begin, int64_t end) {
  std::string text = "text,other\r\n";
  for (int64_t i = begin; i < end; ++i) {
    std::string field = text_of(i);
    for (size_t at = field.find('"'); at != std::string::npos; at = field.find('"', at + 2))
      field.insert(at, "\"");
    text += "\"" + field + "\",1\r\n";
  }
  return text;
}

struct Folder {
  std::string root = scratch_directory();
  std::string cache = root + "/cache";
  std::string file(const std::string& name, const std::string& content) const {
    const std::string path = join_path(root, name);
    make_directories(path.substr(0, path.rfind('/')));
    return write_file(path.substr(0, path.rfind('/')), base_name(path), content);
  }
  Finished train(const std::string& dataset, const std::string& out, Words more = {}) const {
    more.insert(more.end(), {"--max-steps", "6", "--save-steps", "3", "--per-device-train-batch-size", "2",
                             "--dataset-cache-dir", cache});
    return run_serval(train_words(dataset, root + "/" + out, more));
  }
  bool same(const std::string& a, const std::string& b) const {
    return same_bytes(root + "/" + a + "/adapter_model.safetensors",
                      root + "/" + b + "/adapter_model.safetensors") &&
           same_bytes(root + "/" + a + "/metrics.jsonl", root + "/" + b + "/metrics.jsonl");
  }
};

TEST(DataFiles, EveryContainerTrainsAlike) {
  const Folder folder;
  const std::string all = jsonl(0, 20);
  const Finished plain = folder.train(folder.file("plain.jsonl", all), "plain");
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  folder.file("dir/train-00000-of-00002.jsonl", jsonl(0, 9));
  folder.file("dir/train-00001-of-00002.jsonl.gz", gzipped(jsonl(9, 20)));
  folder.file("dir/validation.jsonl", jsonl(20, 22));
  const std::pair<std::string, std::string> datasets[] = {
      {"gz", folder.file("rows.jsonl.gz", gzipped(all))},
      {"csv", folder.file("rows.csv", csv(0, 20))},
      {"directory", folder.root + "/dir"},
      {"glob", folder.root + "/dir/train-*"},
      {"slice", fmt::format("{{path: {}, split: 'train[:20]'}}", folder.file("long.jsonl", jsonl(0, 30)))},
      {"two", folder.file("first.csv", csv(0, 4)) + "," + folder.file("rest.jsonl", jsonl(4, 20))},
  };
  for (const auto& [name, dataset] : datasets) {
    const Finished run = folder.train(dataset, name);
    ASSERT_EQ(run.exit_code, 0) << name << run.err;
    EXPECT_TRUE(folder.same("plain", name)) << name;
  }
}

TEST(DataFiles, HeldOutSplitOfADirectory) {
  const Folder folder;
  folder.file("dir/train.jsonl", jsonl(0, 9));
  folder.file("dir/test.jsonl", jsonl(20, 22));
  const Finished run =
      folder.train(folder.root + "/dir", "out", {"--dataset-test-split", "test", "--eval-steps", "3"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "eval_dataset " + folder.root + "/dir test");
  EXPECT_HAS(run.err, "2 examples of 2 rows");
  EXPECT_FAILS(folder.train(folder.root + "/dir", "wrong", {"--dataset-train-split", "tran"}), 1,
               "has no split 'tran'; it has: test, train");
}

TEST(DataMix, WeightsCountAndResumeIsExact) {
  const Folder folder;
  const std::string a = folder.file("a.jsonl", jsonl(0, 40)), b = folder.file("b.csv", csv(100, 110));
  const std::string config =
      folder.file("mix.yaml", fmt::format("datasets:\n- path: {}\n  weight: 1\n- path: {}\n  weight: 2\n"
                                          "lora_dropout: 0.1\n",
                                          a, b));
  const auto words = [&](const std::string& out, Words more) {
    Words all = {"train", config};
    const Words rest = train_words("x", folder.root + "/" + out, more);
    for (size_t i = 1; i < rest.size(); ++i)
      if (rest[i] == "--dataset")
        ++i;
      else
        all.push_back(rest[i]);
    all.insert(all.end(), {"--max-steps", "14", "--save-steps", "7", "--per-device-train-batch-size", "2"});
    return all;
  };
  Finished run = run_serval(words("whole", {}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "5 of its 40 examples are in the mix");
  EXPECT_HAS(run.err, "10 of its 10 examples are in the mix");
  run = run_serval(words("parts", {}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  remove_tree(checkpoint_path(folder.root + "/parts", 14));  // step 7 of 8 in the first epoch
  run = run_serval(words("parts", {"--resume-from-checkpoint"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.err, "at step 7");
  EXPECT_TRUE(folder.same("whole", "parts"));
}

TEST(DataCacheRuns, HitMissOffAndDamage) {
  const Folder folder;
  const std::string data = folder.file("rows.jsonl", jsonl(0, 20));
  const auto hit = [](const Finished& run) {
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return run.err.find("from the cache") != std::string::npos;
  };
  EXPECT_FALSE(hit(folder.train(data, "first")));
  const auto entries = list_directory(folder.cache);
  ASSERT_EQ(entries.size(), 1u);
  const Finished second = folder.train(data, "second");
  EXPECT_TRUE(hit(second));
  EXPECT_HAS(second.err, "kept in " + folder.cache);
  EXPECT_TRUE(folder.same("first", "second"));
  EXPECT_FALSE(hit(folder.train(data, "off", {"--no-dataset-cache"})));
  EXPECT_TRUE(folder.same("first", "off"));
  const std::string entry = folder.cache + "/" + entries[0];
  std::string bytes = read_file(entry);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file_atomically(entry, bytes);
  const Finished mended = folder.train(data, "mended");
  EXPECT_FALSE(hit(mended));
  EXPECT_HAS(mended.err, "is damaged or of another version; it is made again");
  EXPECT_TRUE(folder.same("first", "mended"));
  EXPECT_TRUE(hit(folder.train(data, "again")));
}

TEST(DataVerbs, PreviewAndStats) {
  const Folder folder;
  const std::string data = folder.file("rows.jsonl", jsonl(0, 20) + jsonl(0, 1));
  Finished run = run_serval({"data", "preview", "--tokenizer", tiny_model(), "--dataset", data, "--preview",
                             "2", "--first-row", "3"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.out, "--- example 1: ");
  EXPECT_HAS(run.out, "\"said\" the 9 one");  // row 4 of 1, 2, 3, 4
  EXPECT_EQ(run.out.find("--- example 3: "), std::string::npos);
  EXPECT_EQ(run.out.find('\x1b'), std::string::npos);  // no terminal, no colours
  run = run_serval({"data", "preview", "--tokenizer", tiny_model(), "--dataset", data, "--format", "html"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_TRUE(run.out.starts_with("<!doctype html>"));
  run = run_serval({"data", "stats", "--model", tiny_model(), "--dataset", data, "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json stats = Json::parse(run.out, "stats").at("datasets").as_array().at(0);
  EXPECT_EQ(stats.at("rows").as_int(), 21);
  EXPECT_EQ(stats.at("duplicates").as_int(), 1);
  EXPECT_GT(stats.at("trained_tokens").as_int(), 0);
  EXPECT_FAILS(run_serval({"data", "stats", "--dataset", data}), 2, "tokenizer_name_or_path is missing");
  EXPECT_FAILS(run_serval({"data", "previw"}), 2, "did you mean 'preview'?");
  EXPECT_FAILS(
      run_serval({"data", "preview", "--tokenizer", tiny_model(), "--dataset", data, "--first-row", "22"}), 1,
      "has 21 rows");
}

TEST(DataVerbs, HostileFilesEndInOneLine) {
  const Folder folder;
  const std::string whole = gzipped(jsonl(0, 500));
  const std::pair<std::string, const char*> cases[] = {
      {folder.file("cut.jsonl.gz", whole.substr(0, whole.size() / 2)), "ends early"},
      {folder.file("open.csv", "text\n\"never closed\n"), "never closed"},
      {folder.file("nul.csv", std::string("text\n\0x\n", 8)), "zero bytes"},
      {folder.file("bad.parquet", "PAR1 this is not Parquet PAR1"), "bad.parquet"},
      {folder.file("bad.arrow", "ARROW1 nor this"), "bad.arrow"},
      {folder.root + "/none*.csv", "no file matches"},
      {"no/such", "hf download"},
  };
  for (const auto& [path, message] : cases)
    EXPECT_FAILS(run_serval({"data", "stats", "--tokenizer", tiny_model(), "--dataset", path}), 1, message);
}

// As a package lays it out: the plugin alone, and pyarrow's libraries elsewhere or nowhere.
TEST(DataVerbs, ThePluginForParquetFindsItsLibraries) {
  const std::string binary(std::getenv("SERVAL_BINARY") == nullptr ? "" : std::getenv("SERVAL_BINARY"));
  const std::string build = binary.substr(0, binary.rfind('/') + 1);
  if (!file_exists(build + "libserval_arrow.so")) GTEST_SKIP() << "built without the Parquet plugin";
  const Folder folder;
  const std::string plugin = folder.file("lib/libserval_arrow.so", read_file(build + "libserval_arrow.so"));
  const auto convert = [&](const std::string& pyarrow) {
    Process::Options options;
    options.environment = {"SERVAL_ARROW_PLUGIN=" + plugin, "VIRTUAL_ENV=/none", "CONDA_PREFIX=/none",
                           "HOME=/none", "SERVAL_PYARROW_DIR=" + pyarrow};
    return run_serval({"data", "convert", fixture("data/tables/zstd.parquet")}, options);
  };
  const Finished found = convert(build);  // a build has links to them
  EXPECT_EQ(found.exit_code, 0) << found.err;
  EXPECT_HAS(found.out, "{\"messages\"");
  const Finished lacking = convert("/none");
  if (lacking.exit_code == 0) GTEST_SKIP() << "the system has a pyarrow of this version";
  EXPECT_FAILS(
      lacking, 1,
      "zstd.parquet: Parquet and Arrow files are read by a plugin, and libserval_arrow.so finds no lib");
  EXPECT_HAS(lacking.err, "pip install \"pyarrow==");
}

TEST(DataVerbs, MaskKeysOfAxolotl) {
  const Folder folder;
  const std::string data = folder.file(
      "rows.jsonl",
      R"({"conversations": [{"from": "human", "value": "one"}, {"from": "gpt", "value": "two", "keep": true}]})"
      "\n"
      R"({"conversations": [{"from": "human", "value": "one"}, {"from": "gpt", "value": "six", "keep": false},
          {"from": "human", "value": "ten", "keep": true}]})");
  std::string text = read_file(data);
  std::erase(text, '\n');
  const std::string rows = folder.file(
      "flat.jsonl", Json::parse("[" + text.insert(text.find("}{") + 1, ",") + "]", "rows").dump());
  const std::string config = folder.file(
      "axolotl.yaml",
      fmt::format("datasets:\n- path: {}\n  type: chat_template\n  field_messages: conversations\n"
                  "  message_property_mappings: {{role: from, content: value}}\n  roles_to_train: []\n"
                  "  train_on_eos: turn\n  message_field_training: keep\neot_tokens: ['<|im_end|>']\n",
                  rows));
  const Finished run =
      run_serval({"data", "preview", config, "--tokenizer", fixture("data/tokenizer_plain")});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.out, "assistant\n[[two<|im_end|>]]\n");
  EXPECT_HAS(run.out, "assistant\nsix<|im_end|>\n<|im_start|>user\n[[ten<|im_end|>]]\n");
}

TEST(DataVerbs, PairsAndPromptsAreShownToo) {
  const Folder folder;
  const std::string pairs =
      folder.file("pairs.jsonl",
                  "{\"prompt\": \"a b\", \"chosen\": \" yes\", \"rejected\": \" no\"}\n"
                  "{\"prompt\": \"c d\", \"chosen\": \" yes\", \"rejected\": \" never\"}\n");
  Finished run =
      run_serval({"data", "preview", "--tokenizer", tiny_model(), "--dataset", pairs, "--preview", "1"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_HAS(run.out, "--- example 1 chosen: ");
  EXPECT_HAS(run.out, "a b[[ yes");
  EXPECT_HAS(run.out, "--- example 1 rejected: ");
  EXPECT_EQ(run.out.find("example 2"), std::string::npos);
  for (int again = 0; again < 2; ++again) {
    run = run_serval({"data", "stats", "--tokenizer", tiny_model(), "--dataset", pairs, "--json",
                      "--dataset-cache-dir", folder.cache});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json stats = Json::parse(run.out, "stats").at("datasets").as_array().at(0);
    EXPECT_EQ(stats.at("rows").as_int(), 2);
    EXPECT_EQ(stats.at("examples").as_int(), 4);
  }
  const std::string wrong = folder.file("wrong.jsonl", "{\"colour\": 1}\n");
  EXPECT_FAILS(run_serval({"data", "stats", "--tokenizer", tiny_model(), "--dataset", wrong}), 1,
               "no known kind of dataset: colour");
}

}  // namespace
}  // namespace serval::testing
