// Wrong files end in one line that says which and where, exit code 1, and nothing half-written.
#include <cstring>
#include <filesystem>

#include "cli/program.h"

namespace serval::testing {
namespace {

using Words = std::vector<std::string>;

Words train_with(const std::string& model, const std::string& data, const std::string& out) {
  return {"train", "--model",     model, "--dataset",    data, "--output-dir", out, "--num-threads",
          "1",     "--max-steps", "1",   "--max-length", "64"};
}

std::string copy_of_tiny(const std::string& path, const Json& changes = Json()) {
  model_folder(path, changes);
  write_file(path, "model.safetensors", read_file(tiny_model() + "/model.safetensors"));
  return path;
}

Json change(const char* key, Json value) {
  Json changes = Json::object();
  changes.set(key, std::move(value));
  return changes;
}

TEST(BadInput, MissingFiles) {
  const std::string root = scratch_directory(), data = write_texts(root, 3), out = root + "/out";
  EXPECT_FAILS(run_serval(train_with(root + "/nothing", data, out)), 1, "nothing: no such directory");
  EXPECT_FAILS(run_serval(train_with(tiny_model(), root + "/none.jsonl", out)), 1,
               "none.jsonl: there is no such file or directory");
  EXPECT_FAILS(run_serval({"train", root + "/none.yaml"}), 1, "none.yaml: cannot open");
  EXPECT_FAILS(run_serval({"inspect", root + "/none"}), 1, "none: no such directory");
  EXPECT_FAILS(run_serval({"generate", "--model", tiny_model(), "--adapter", root, "--prompt", "x"}), 1,
               "adapter_config.json: missing");
  EXPECT_FAILS(run_serval({"generate", "--model", "some/model", "--prompt", "x"}), 1,
               "hf download some/model");
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    const std::string model = copy_of_tiny(root + "/model");
    std::filesystem::remove(model + "/" + name);
    EXPECT_FAILS(run_serval(train_with(model, data, out)), 1, name);
  }
  EXPECT_FALSE(directory_exists(out));
}

TEST(BadInput, DamagedCheckpoints) {
  const std::string root = scratch_directory(), data = write_texts(root, 3), out = root + "/out";
  const std::string whole = read_file(tiny_model() + "/model.safetensors");
  for (const size_t size : {size_t{0}, size_t{5}, size_t{8}, size_t{100}, size_t{5000}, whole.size() - 1}) {
    const std::string model = copy_of_tiny(root + "/model");
    write_file(model, "model.safetensors", whole.substr(0, size));
    EXPECT_FAILS(run_serval(train_with(model, data, out)), 1, "model.safetensors");
    EXPECT_FAILS(run_serval({"inspect", model}), 1, "model.safetensors");
  }
  const std::string model = copy_of_tiny(root + "/model");
  write_file(model, "model.safetensors",
             std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8) + whole.substr(8));
  EXPECT_FAILS(run_serval({"inspect", model + "/model.safetensors"}), 1, "model.safetensors");
  EXPECT_FALSE(directory_exists(out));
}

TEST(BadInput, Configurations) {
  const std::string root = scratch_directory(), data = write_texts(root, 3), out = root + "/out";
  const auto run_with = [&](const Json& changes) {
    return run_serval(train_with(copy_of_tiny(root + "/model", changes), data, out));
  };
  EXPECT_FAILS(run_with(change("intermediate_size", Json(96))), 1,
               "'model.layers.0.mlp.gate_proj.weight' is [64, 32], expected [96, 32]");
  EXPECT_FAILS(run_with(change("num_hidden_layers", Json(3))), 1, "model.layers.2");
  EXPECT_FAILS(run_with(change("hidden_size", Json(int64_t{96000000000}))), 1, "hidden_size");
  EXPECT_FAILS(run_with(change("num_attention_heads", Json(0))), 1, "num_attention_heads");
  EXPECT_FAILS(run_with(change("vocab_size", Json(-1))), 1, "vocab_size");
  EXPECT_FAILS(run_with(change("vocab_size", Json("many"))), 1, "vocab_size");
  EXPECT_FAILS(run_with(change("frobnicate", Json(3))), 1, "--ignore-config-key frobnicate");
  Json other = change("architectures", Json(Json::Array{Json("FooForCausalLM")}));
  other.set("model_type", Json("foo"));
  EXPECT_FAILS(run_with(other), 1, "FooForCausalLM");
  write_file(root + "/model", "config.json", "{\"architectures\": [");
  EXPECT_FAILS(run_serval(train_with(root + "/model", data, out)), 1, "config.json: not valid JSON");

  Words words =
      train_with(copy_of_tiny(root + "/model", change("frobnicate", Json(3))), data, root + "/ignored");
  words.push_back("--ignore-config-key"), words.push_back("frobnicate");
  const Finished run = run_serval(words);
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST(BadInput, DatasetRowsAreNamedWithTheirLine) {
  const std::string root = scratch_directory();
  struct Case {
    const char *content, *message;
  };
  for (const Case& c :
       {Case{"{\"text\": \"a\"}\n{\"text\": 3}\n", "d.jsonl:2: 'text' must be text"},
        Case{"{\"text\": \"a\"}\n\n{\"text\":\n", "d.jsonl:3: not valid JSON"},
        Case{"{\"foo\": \"a\"}\n", "d.jsonl:1: these columns are no known kind"},
        Case{"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n{\"messages\": [{\"rol\": 1}]}\n",
             "d.jsonl:2: 'messages[0]'"},
        Case{"", "d.jsonl: holds no rows"}, Case{"[1, 2]\n", "d.jsonl"},
        Case{"{\"text\": \"a\xff\"}\n", "d.jsonl:1"}}) {
    const std::string data = write_file(root, "d.jsonl", c.content);
    EXPECT_FAILS(run_serval(train_with(tiny_model(), data, root + "/out")), 1, c.message);
    EXPECT_FAILS(run_serval({"eval", "--model", tiny_model(), "--dataset", data}), 1, c.message);
  }
  EXPECT_FALSE(directory_exists(root + "/out"));
}

// A tokenizer of another model: its ids are beyond the vocabulary.
TEST(BadInput, ATokenizerThatDoesNotBelongToTheModel) {
  const std::string root = scratch_directory(), data = write_texts(root, 3), model = root + "/model";
  const std::string small = fixture("models/llama_a");  // 101 entries
  model_folder(model, Json());
  for (const char* name : {"config.json", "model.safetensors"})
    write_file(model, name, read_file(small + "/" + name));
  const char* message = "they do not belong together";
  EXPECT_FAILS(run_serval(train_with(model, data, root + "/out")), 1, message);
  EXPECT_FAILS(run_serval({"eval", "--model", model, "--dataset", data}), 1, message);
  EXPECT_FAILS(run_serval({"generate", "--model", model, "--raw", "--prompt", "river stone"}), 1, message);
}

TEST(BadInput, CheckNanNamesTheOp) {
  const std::string root = scratch_directory(), data = write_texts(root, 3),
                    model = copy_of_tiny(root + "/model");
  std::string bytes = read_file(model + "/model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const Json entries = Json::parse(bytes.substr(8, header), "header");
  const auto offset = static_cast<size_t>(
      entries.at("model.layers.1.mlp.down_proj.weight").at("data_offsets").as_array()[0].as_int());
  bytes.replace(8 + header + offset, 2, "\xc0\x7f");
  write_file(model, "model.safetensors", bytes);
  const std::string where = "forward of 'model.layers.1.mlp.down_proj' (op linear)";
  Words words = train_with(model, data, root + "/out");
  EXPECT_FAILS(run_serval(words), 1, "--check-nan names the op");
  EXPECT_TRUE(files_of_run(root + "/out") == (Words{"metrics.jsonl", "recompute.json", "serval.yaml"}));
  words.push_back("--check-nan"), words.push_back("--overwrite-output-dir");
  EXPECT_FAILS(run_serval(words), 1, where);
  for (const bool check : {false, true}) {
    Words eval = {"eval", "--model", model, "--dataset", data, "--num-threads", "1"};
    Words generate = {"generate", "--model", model, "--prompt", "hi", "--num-threads", "1"};
    if (check) eval.push_back("--check-nan"), generate.push_back("--check-nan");
    EXPECT_FAILS(run_serval(eval), 1, check ? where : "--check-nan");
    EXPECT_FAILS(run_serval(generate), 1, check ? where : "--check-nan");
  }
}

TEST(BadInput, OutputThatCannotBeWritten) {
  const std::string root = scratch_directory(), data = write_texts(root, 3);
  EXPECT_FAILS(run_serval(train_with(tiny_model(), data, "/proc/serval")), 1, "/proc/serval: cannot create");
  EXPECT_FAILS(run_serval(train_with(tiny_model(), data, data)), 1, "texts.jsonl: cannot create");
}

// A disk that fills up while a checkpoint is written.
TEST(BadInput, NothingHalfWrittenWhereSpaceEnds) {
  const std::string root = scratch_directory(), data = write_texts(root, 3);
  for (const int64_t limit : {20'000, 70'000, 140'000}) {
    const std::string out = root + "/out-" + std::to_string(limit);
    Words words = train_words(data, out, {"--max-steps", "3", "--save-steps", "2"});
    const Finished run = run_serval(words, {.file_size_limit = limit});
    EXPECT_FAILS(run, 1, "cannot write");
    for (const auto& entry : std::filesystem::recursive_directory_iterator(out)) {
      EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
      EXPECT_TRUE(!entry.is_regular_file() || entry.file_size() > 0) << entry.path();
    }
    EXPECT_FALSE(directory_exists(out + "/merged"));
    words.push_back("--resume-from-checkpoint");
    const Finished resumed = run_serval(words);
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  }
}

}  // namespace
}  // namespace serval::testing
