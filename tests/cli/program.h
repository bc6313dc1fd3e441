// Runs the real `serval` as a child process, and makes the tiny model that its tests train.
//
//   Finished run = run_serval({"train", "--model", tiny_model(), "--dataset", path, "--output-dir", out});
//   EXPECT_EQ(run.exit_code, 0) << run.err;
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "support/test_data.h"

namespace serval::testing {

struct Finished {
  int exit_code = -1;  // -signal where one ended the process
  std::string out, err;
  int64_t peak_bytes = 0;  // resident
  double seconds = 0;
  std::vector<std::string> error_lines() const;  // those that begin with "serval:"
};

// A started process. Output goes to files, so it never blocks.
class Process {
 public:
  struct Options {
    std::string input;                     // of stdin
    std::string stdout_path;               // instead of a file of its own
    std::string directory;                 // to run in; "" is this process's
    int64_t file_size_limit = 0;           // RLIMIT_FSIZE with SIGXFSZ ignored; 0 is none
    std::vector<std::string> environment;  // NAME=VALUE
  };
  explicit Process(const std::vector<std::string>& words) : Process(words, Options{}) {}
  Process(const std::vector<std::string>& words, const Options& options);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // False where the process ended before stderr held `text`.
  bool wait_for_error_text(const std::string& text);
  void signal(int number);
  Finished wait();

 private:
  pid_t pid_ = -1;
  bool waited_ = false;
  std::string directory_, stdout_path_;
  double begin_ = 0;
  Finished run_;
  bool ended(bool block);
};

Finished run_serval(const std::vector<std::string>& words);
Finished run_serval(const std::vector<std::string>& words, const Process::Options& options);

// What a run left in a directory, without the table of products that only a GPU writes.
std::vector<std::string> files_of_run(const std::string& directory);

// A random two-layer Llama of 43 K parameters in bf16 with the demo's tokenizer and chat template, made by
// `serval train --init` once per test program.
const std::string& tiny_model();
// A folder with its config.json and tokenizer, without weights; `edit` may change the configuration.
std::string model_folder(const std::string& path, const Json& changes);
Json tiny_config();

// A dataset of `rows` short texts, the same each time.
std::string write_texts(const std::string& directory, int64_t rows);
std::string write_file(const std::string& directory, const std::string& name, const std::string& content);

// "train --model tiny --dataset D --output-dir O --num-threads 1" and `more`.
std::vector<std::string> train_words(const std::string& dataset, const std::string& output,
                                     const std::vector<std::string>& more);

std::vector<Json> read_lines(const std::string& path);  // of a JSONL file
bool same_bytes(const std::string& a, const std::string& b);

#define EXPECT_HAS(text, part) \
  EXPECT_NE(std::string(text).find(part), std::string::npos) << "expected '" << (part) << "' in: " << (text)
// A failure is one line that holds `part`, and nothing on stdout.
#define EXPECT_FAILS(run, code, part)                                                   \
  do {                                                                                  \
    const ::serval::testing::Finished& failed_ = (run);                                 \
    EXPECT_EQ(failed_.exit_code, code) << failed_.err;                                  \
    EXPECT_EQ(failed_.out, "");                                                         \
    ASSERT_EQ(failed_.error_lines().size(), 1u) << failed_.err;                         \
    EXPECT_HAS(failed_.error_lines()[0], part);                                         \
    EXPECT_TRUE(failed_.err.ends_with(failed_.error_lines()[0] + "\n")) << failed_.err; \
  } while (false)

}  // namespace serval::testing
