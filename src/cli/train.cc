#include "base/log.h"
#include "cli/cli.h"

namespace serval {

int run_train(const Arguments& arguments) {
  const ResolvedTrain resolved = resolve_train(arguments.settings);
  log_info("{}", print_resolved(resolved.settings));
  for (const std::string& note : resolved.notes) log_info("note: {}", note);
  TrainingSetup setup = prepare_training(resolved.config, true);
  log_info("{}", describe_plan(setup));
  check_memory(setup);
  if (resolved.config.dry_run) return 0;
  return run_training(setup, resolved);
}

}  // namespace serval
