// The verbs of the program. Each takes its parsed command line and returns the exit code: 0, or 1 and 2
// through the errors that main() prints.
#pragma once
#include <string>

#include "config/arguments.h"
#include "config/train_config.h"
#include "train/training_run.h"

namespace serval {

extern const char* const kVersion;

int run_train(const Arguments& arguments);
int run_plan(const Arguments& arguments);
int run_generate(const Arguments& arguments);
int run_chat(const Arguments& arguments);
int run_eval(const Arguments& arguments);
int run_inspect(const Arguments& arguments);
int run_tokenize(const Arguments& arguments);
int run_render(const Arguments& arguments);
int run_info(const Arguments& arguments);
int run_bench(const Arguments& arguments);

// Results go to stdout, everything else to stderr.
void print_result(const std::string& text);

// The memory table, FLOPs and expected time of a run (src/cli/plan.cc); `serval train` prints it too.
std::string describe_plan(const TrainingSetup& setup);

}  // namespace serval
