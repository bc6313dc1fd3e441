// serval VERB [...]: finds the verb, prints help and errors, and turns the latter into exit codes:
// 0 done, 1 failed, 2 wrong usage.
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/data.h"
#include "config/verbs.h"

namespace serval {

const char* const kVersion = "0.1.0";

void print_result(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail("the output cannot be written");
}

namespace {

std::string overview() {
  std::string text =
      fmt::format("serval {}: fine-tunes language models\n\nusage: serval VERB [...]\n\n", kVersion);
  for (const Verb* verb : all_verbs()) text += fmt::format("  {:<10} {}\n", verb->name, verb->summary);
  return text + "\nserval VERB --help explains a verb; serval --version tells the version.\n";
}

int run_verb(const Arguments& arguments, const std::string& name) {
  if (name == "train") return run_train(arguments);
  if (name == "plan") return run_plan(arguments);
  if (name == "generate") return run_generate(arguments);
  if (name == "chat") return run_chat(arguments);
  if (name == "eval") return run_eval(arguments);
  if (name == "inspect") return run_inspect(arguments);
  if (name == "tokenize") return run_tokenize(arguments);
  if (name == "render") return run_render(arguments);
  if (name == "bench") return run_bench(arguments);
  return run_info(arguments);
}

int run(std::span<const std::string> words) {
  if (words.empty()) {
    std::fputs(overview().c_str(), stderr);
    return 2;
  }
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_result(overview());
    return 0;
  }
  if (words[0] == "--version") {
    print_result(fmt::format("serval {}\n", kVersion));
    return 0;
  }
  std::vector<std::string> names;
  for (const Verb* verb : all_verbs()) {
    names.push_back(verb->name);
    if (verb->name != words[0]) continue;
    if (verb->name == "data") return run_data(words.subspan(1));
    const Arguments arguments = parse_arguments(*verb, words.subspan(1));
    if (arguments.help) {
      print_result(help_text(*verb));
      return 0;
    }
    return run_verb(arguments, verb->name);
  }
  const std::string nearest = nearest_name(words[0], names);
  fail_usage("'{}' is no verb of serval{}; see serval --help", words[0],
             nearest.empty() ? "" : ", did you mean '" + nearest + "'?");
}

}  // namespace
}  // namespace serval

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    return serval::run(words);
  } catch (const serval::UsageError& error) {
    std::fprintf(stderr, "serval: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "serval: %s\n", error.what());
    return 1;
  }
}
