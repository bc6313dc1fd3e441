// A training run on a device that works beside the host, and on one that fails: what is written, and what is
// said.
#include "train/training_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/file.h"
#include "config/arguments.h"
#include "config/verbs.h"
#include "support/device_wrapper.h"
#include "support/test_data.h"
#include "train/checkpoints.h"

namespace serval::testing {
namespace {

// Does its work at once and says that it goes on: figures may be taken a step late.
class AsynchronousDevice final : public DeviceWrapper {
 public:
  AsynchronousDevice() : DeviceWrapper(make_cpu_device()) {}
  bool asynchronous() const override { return true; }
};

using Words = std::vector<std::string>;

struct Ending {
  int exit_code = 0;
  std::string error;
  int64_t copy_bytes = 0;  // of the host's copy for checkpoints
};

struct RunOptions {
  std::shared_ptr<Device> device;
  std::function<void(const OpCall&, const Executor&)> observer;
};

Ending train(const std::string& output, Words more, const RunOptions& options = {}) {
  const std::string demo = source_directory() + "/examples/demo";
  Words words = {"--model",
                 demo + "/model",
                 "--dataset",
                 demo + "/data/heldout.jsonl",
                 "--output-dir",
                 output,
                 "--device",
                 "cpu",
                 "--max-length",
                 "64",
                 "--per-device-train-batch-size",
                 "1",
                 "--no-progress",
                 "--logging-steps",
                 "2",
                 "--num-threads",
                 "1"};
  words.insert(words.end(), more.begin(), more.end());
  try {
    const ResolvedTrain resolved = resolve_train(parse_arguments(train_verb(), words).settings);
    TrainingSetup setup = prepare_training(resolved.config, true);
    if (options.device) setup.device = options.device;
    setup.observer = options.observer;
    const int64_t copy_bytes = setup.checkpoint_copy_bytes;
    return {run_training(setup, resolved), "", copy_bytes};
  } catch (const UserError& error) {
    return {1, error.what()};
  }
}

void expect_same_files(const std::string& a, const std::string& b, const Words& names) {
  for (const std::string& name : names)
    EXPECT_EQ(read_file(join_path(a, name)), read_file(join_path(b, name))) << name;
}

// Throws at the first call of `op` of step `step`; without a message it writes NaN where the sums lie.
std::function<void(const OpCall&, const Executor&)> trouble(std::string op, int step, std::string message) {
  auto count = std::make_shared<int>(0);
  return [=](const OpCall& call, const Executor& executor) {
    if (call.op->name != op || ++*count != step) return;
    if (!message.empty()) throw DeviceError(message);
    for (const TensorId id : call.updates)
      if (id != kNone && executor.program().tensor(id).name == "loss.sums")
        static_cast<double*>(executor.operand(id).data)[1] = std::nan("");
  };
}

Words eight_steps() {
  return {"--max-steps",  "8", "--save-steps",   "3",
          "--eval-steps", "4", "--eval-dataset", source_directory() + "/examples/demo/data/heldout.jsonl"};
}

TEST(TrainingRun, FiguresThatComeAStepLateAreTheSame) {
  const std::string root = scratch_directory();
  const Ending now = train(root + "/now", eight_steps());
  EXPECT_EQ(now.error, "");
  EXPECT_GT(now.copy_bytes, 0) << "the checkpoints were not written beside the run";
  EXPECT_EQ(train(root + "/late", eight_steps(), {std::make_shared<AsynchronousDevice>(), nullptr}).error,
            "");
  expect_same_files(root + "/now", root + "/late",
                    {"metrics.jsonl", "adapter_model.safetensors", "loss.svg", "checkpoint-3/state.json",
                     "checkpoint-3/optimizer.safetensors", "checkpoint-3/trainer_state.json",
                     "checkpoint-6/optimizer.safetensors", "checkpoint-6/adapter_model.safetensors",
                     "checkpoint-6/state.json"});
}

// A NaN at step 6 may be found a step later, but neither it nor what follows is saved.
// One run writes its checkpoints from a copy, the other from the states: the copy would be a large part of
// it.
TEST(TrainingRun, ACheckpointWrittenBesideTheRunIsTheSame) {
  const std::string root = scratch_directory();
  for (const bool peft : {true, false}) {
    const std::string beside = root + "/beside", in_line = root + "/in_line";
    Words words = {
        "--overwrite-output-dir", "--lr-scheduler-type", "constant", "--save-steps", "2", "--max-steps"};
    if (!peft) words.insert(words.begin(), {"--use-peft", "false", "--trainable", "model.layers.0"});
    Words longer = words;
    words.push_back("2");
    longer.push_back("4");
    const Ending first = train(beside, longer), second = train(in_line, words);
    EXPECT_EQ(first.error + second.error, "");
    EXPECT_GT(first.copy_bytes, 0);
    EXPECT_EQ(second.copy_bytes, 0);  // its last step has nothing to run beside
    expect_same_files(
        beside + "/checkpoint-2", in_line + "/checkpoint-2",
        {"optimizer.safetensors", "state.json", peft ? "adapter_model.safetensors" : "model.safetensors"});
  }
}

TEST(TrainingRun, ANonFiniteLossReachesNoCheckpoint) {
  for (const bool late : {false, true}) {
    const std::string out = scratch_directory() + "/out";
    RunOptions options{nullptr, trouble("head_loss", 6, "")};
    if (late) options.device = std::make_shared<AsynchronousDevice>();
    for (const char* every : {"1", "3", "7"}) {
      options.observer = trouble("head_loss", 6, "");
      const Ending ending =
          train(out, {"--max-steps", "12", "--save-steps", every, "--overwrite-output-dir"}, options);
      EXPECT_EQ(ending.exit_code, 1);
      EXPECT_NE(ending.error.find("step 6: the loss is nan"), std::string::npos) << ending.error;
      for (const int64_t step : checkpoint_steps(out)) EXPECT_LT(step, 6);
      EXPECT_EQ(checkpoint_steps(out).size(), every[0] == '1' ? 5u : every[0] == '3' ? 1u : 0u);
    }
  }
}

TEST(TrainingRun, ADeviceThatFailsInAStepLeavesACheckpointToContinueFrom) {
  for (const bool late : {false, true}) {
    const std::string root = scratch_directory(), whole = root + "/whole", out = root + "/out";
    RunOptions options{nullptr, trouble("head_loss", 5, "cuda:0 cannot give 1 GiB")};
    if (late) options.device = std::make_shared<AsynchronousDevice>();
    const Words words = {"--max-steps", "8", "--save-steps", "100"};
    const Ending ending = train(out, words, options);
    EXPECT_EQ(ending.exit_code, 1);
    EXPECT_EQ(ending.error, "cuda:0 cannot give 1 GiB; step 4 is saved: continue from " + out +
                                "/checkpoint-4 with --resume-from-checkpoint");
    EXPECT_EQ(checkpoint_steps(out), std::vector<int64_t>{4});
    EXPECT_EQ(train(whole, words).error, "");
    Words more = words;
    more.push_back("--resume-from-checkpoint");
    EXPECT_EQ(train(out, more).error, "");
    expect_same_files(whole, out, {"metrics.jsonl", "adapter_model.safetensors"});
  }
}

TEST(TrainingRun, AnUpdateThatFailsIsNotSaved) {
  const std::string out = scratch_directory() + "/out";
  Ending ending =
      train(out, {"--max-steps", "8", "--save-steps", "3"}, {nullptr, trouble("adamw", 5, "out of memory")});
  EXPECT_EQ(ending.error,
            "out of memory; step 4 could not be saved: the update of step 5 was cut short; continue from " +
                out + "/checkpoint-3 with --resume-from-checkpoint");
  EXPECT_EQ(checkpoint_steps(out), std::vector<int64_t>{3});
  ending = train(out, {"--max-steps", "8", "--overwrite-output-dir"}, {nullptr, trouble("adamw", 2, "lost")});
  EXPECT_NE(ending.error.find("no checkpoint was saved before"), std::string::npos) << ending.error;
  ending =
      train(out, {"--max-steps", "8", "--overwrite-output-dir"}, {nullptr, trouble("head_loss", 1, "lost")});
  EXPECT_EQ(ending.error, "lost; no step was done");
  EXPECT_TRUE(checkpoint_steps(out).empty());
}

// A checkpoint that cannot be written ends the run, though it is written beside it.
TEST(TrainingRun, AFailureOfTheWriterEndsTheRun) {
  const std::string out = scratch_directory() + "/out";
  int steps = 0;
  const Ending ending = train(out, {"--max-steps", "200", "--save-steps", "2"},
                              {nullptr, [&](const OpCall& call, const Executor&) {
                                 if (call.op->name != "gradient_norm" || ++steps != 2) return;
                                 // In the way of the directory's final name, and never empty.
                                 make_directories(out);
                                 std::ofstream(out + "/checkpoint-2") << "a file";
                               }});
  EXPECT_EQ(ending.exit_code, 1);
  EXPECT_NE(ending.error.find("checkpoint-2"), std::string::npos) << ending.error;
  for (const std::string& name : list_directory(out))
    EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
}

}  // namespace
}  // namespace serval::testing
