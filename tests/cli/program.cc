#include "cli/program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "base/text.h"

namespace serval::testing {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A folder of this test program, removed when it ends.
const std::string& process_folder() {
  struct Folder {
    std::string path;
    Folder() {
      path = std::filesystem::temp_directory_path() / "serval-tests" / ("cli-" + std::to_string(getpid()));
      std::filesystem::create_directories(path);
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };
  static const Folder folder;
  return folder.path;
}

void redirect(const std::string& path, int flags, int target) {
  const int file = open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (file < 0 || dup2(file, target) < 0) _exit(126);
}

}  // namespace

std::vector<std::string> Finished::error_lines() const {
  std::vector<std::string> lines;
  for (const std::string& line : split(err, '\n'))
    if (line.starts_with("serval:")) lines.push_back(line);
  return lines;
}

Process::Process(const std::vector<std::string>& words, const Options& options) {
  const char* set = std::getenv("SERVAL_BINARY");
  const std::string binary = set != nullptr && *set != 0 ? set : source_directory() + "/bin/serval";
  if (!file_exists(binary)) throw std::runtime_error("SERVAL_BINARY is not set: run this through ctest");
  static int count = 0;
  directory_ = process_folder() + "/run-" + std::to_string(count++);
  std::filesystem::create_directories(directory_);
  stdout_path_ = options.stdout_path.empty() ? directory_ + "/stdout" : options.stdout_path;
  write_file_atomically(directory_ + "/stdin", options.input);
  std::vector<std::string> owned = {binary};
  owned.insert(owned.end(), words.begin(), words.end());
  std::vector<char*> arguments;
  for (std::string& word : owned) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  begin_ = now();
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ > 0) return;
  redirect(directory_ + "/stdin", O_RDONLY, 0);
  redirect(stdout_path_, O_WRONLY | O_CREAT | O_TRUNC, 1);
  redirect(directory_ + "/stderr", O_WRONLY | O_CREAT | O_TRUNC, 2);
  if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) _exit(126);
  if (options.file_size_limit > 0) {
    const rlimit limit{static_cast<rlim_t>(options.file_size_limit),
                       static_cast<rlim_t>(options.file_size_limit)};
    std::signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(126);
  }
  for (const std::string& entry : options.environment) {
    const size_t equals = entry.find('=');
    setenv(entry.substr(0, equals).c_str(), entry.substr(equals + 1).c_str(), 1);
  }
  execv(binary.c_str(), arguments.data());
  _exit(127);
}

Process::~Process() {
  if (!waited_) {
    kill(pid_, SIGKILL);
    ended(true);
  }
}

bool Process::ended(bool block) {
  if (waited_) return true;
  int status = 0;
  rusage usage{};
  const pid_t got = wait4(pid_, &status, block ? 0 : WNOHANG, &usage);
  if (got != pid_) return false;
  waited_ = true;
  run_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  run_.peak_bytes = usage.ru_maxrss * 1024;
  run_.seconds = now() - begin_;
  return true;
}

bool Process::wait_for_error_text(const std::string& text) {
  while (true) {
    const bool over = ended(false);
    const std::string path = directory_ + "/stderr";
    if (file_exists(path) && read_file(path).find(text) != std::string::npos) return true;
    if (over) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void Process::signal(int number) {
  if (!waited_) kill(pid_, number);
}

Finished Process::wait() {
  ended(true);
  run_.err = read_file(directory_ + "/stderr");
  if (stdout_path_.starts_with(directory_)) run_.out = read_file(stdout_path_);
  return run_;
}

Finished run_serval(const std::vector<std::string>& words) {
  return Process(words).wait();
}
Finished run_serval(const std::vector<std::string>& words, const Process::Options& options) {
  return Process(words, options).wait();
}

Json tiny_config() {
  return Json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 768,
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu", "max_position_embeddings": 256,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "initializer_range": 0.04, "tie_word_embeddings": true,
    "eos_token_id": 0, "pad_token_id": 1, "torch_dtype": "bfloat16"})",
                     "the tiny configuration");
}

std::string model_folder(const std::string& path, const Json& changes) {
  make_directories(path);
  Json config = tiny_config();
  if (changes.is_object())
    for (const auto& [key, value] : changes.as_object()) config.set(key, value);
  write_file_atomically(join_path(path, "config.json"), config.dump(2));
  const std::string demo = source_directory() + "/examples/demo/model";
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"})
    write_file_atomically(join_path(path, name), read_file(join_path(demo, name)));
  return path;
}

std::vector<std::string> files_of_run(const std::string& directory) {
  std::vector<std::string> names = list_directory(directory);
  std::erase(names, "product_algorithms.txt");
  return names;
}

const std::string& tiny_model() {
  static const std::string path = [] {
    const std::string init = model_folder(process_folder() + "/init", Json()),
                      out = process_folder() + "/model";
    const std::string data = write_texts(init, 4);
    const Finished run =
        run_serval({"train", "--init", init + "/config.json", "--dataset", data, "--output-dir", out,
                    "--max-steps", "1", "--use-peft", "false", "--num-threads", "1"});
    if (run.exit_code != 0) throw std::runtime_error("the tiny model cannot be made: " + run.err);
    return out;
  }();
  return path;
}

std::string write_file(const std::string& directory, const std::string& name, const std::string& content) {
  const std::string path = join_path(directory, name);
  write_file_atomically(path, content);
  return path;
}

std::string write_texts(const std::string& directory, int64_t rows) {
  const char* words[] = {"river", "stone", "green", "lamp", "seven", "cloud", "paper", "wolf"};
  std::string text;
  uint32_t state = 12345;
  for (int64_t row = 0; row < rows; ++row) {
    std::string line;
    state = state * 1664525u + 1013904223u;
    const uint32_t count = 2 + (state >> 24) % 12;
    for (uint32_t i = 0; i < count; ++i) {
      state = state * 1664525u + 1013904223u;
      line += (i > 0 ? " " : "") + std::string(words[(state >> 24) % 8]);
    }
    text += "{\"text\": \"" + line + "\"}\n";
  }
  return write_file(directory, "texts.jsonl", text);
}

std::vector<std::string> train_words(const std::string& dataset, const std::string& output,
                                     const std::vector<std::string>& more) {
  std::vector<std::string> words = {"train", "--model",      tiny_model(), "--dataset",
                                    dataset, "--output-dir", output,       "--num-threads",
                                    "1",     "--max-length", "64",         "--deterministic"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<Json> read_lines(const std::string& path) {
  std::vector<Json> lines;
  for (const std::string& line : split(read_file(path), '\n'))
    if (!line.empty()) lines.push_back(Json::parse(line, path));
  return lines;
}

bool same_bytes(const std::string& a, const std::string& b) {
  return read_file(a) == read_file(b);
}

}  // namespace serval::testing
