// For scripts/check-peers: the logits of given tokens, to compare with other programs' logits.
//
//   logits_tool MODEL ADAPTER|- float32|bfloat16 forward|cached IDS.txt LOGITS.f32
//
// IDS.txt holds one document a line, its token ids apart by spaces. LOGITS.f32 gets a row of raw f32 for
// every token.
#include <fmt/core.h>

#include <charconv>

#include "base/error.h"
#include "base/file.h"
#include "support/model_logits.h"

namespace serval {
namespace {

testing::Documents read_documents(const std::string& path, int64_t vocab_size) {
  const std::string text = read_file(path);
  testing::Documents documents(1);
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    if (*at == '\n') documents.emplace_back();
    if (*at == '\n' || *at == ' ') {
      ++at;
      continue;
    }
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || id >= vocab_size)
      fail("{}: expected token ids below {}", path, vocab_size);
    documents.back().push_back(id);
    at = next;
  }
  std::erase_if(documents, [](const auto& document) { return document.empty(); });
  if (documents.empty()) fail("{}: holds no token", path);
  return documents;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 6)
    fail_usage("usage: logits_tool MODEL ADAPTER|- float32|bfloat16 forward|cached IDS.txt LOGITS.f32");
  const std::string& mode = arguments[3];
  if (mode != "forward" && mode != "cached") fail_usage("mode is '{}', expected forward or cached", mode);
  const Pretrained model = Pretrained::open(
      {.model = arguments[0], .adapter = arguments[1] == "-" ? "" : arguments[1], .dtype = arguments[2]});
  const auto documents = read_documents(arguments[4], model.config().vocab_size);
  const auto device = make_cpu_device();
  const auto logits = mode == "forward"
                          ? testing::forward_logits(model.config(), model.network_options(), documents,
                                                    testing::weights_of(model), *device)
                          : testing::cached_logits(model.config(), model.network_options(), documents,
                                                   testing::weights_of(model), *device);
  write_file_atomically(arguments[5],
                        std::string_view(reinterpret_cast<const char*>(logits.data()), logits.size() * 4));
  return 0;
}

}  // namespace
}  // namespace serval

int main(int argc, char** argv) {
  try {
    return serval::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "logits_tool: {}\n", error.what());
    return 1;
  }
}
