// Token ids for scripts/check-peers: encodes every line of a file and prints a line of ids for each.
#include <fmt/format.h>

#include <cstdio>

#include "base/file.h"
#include "text/tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: tokenize_tool TOKENIZER_DIRECTORY TEXT\n");
    return 2;
  }
  try {
    const serval::Tokenizer tokenizer = serval::Tokenizer::from_directory(argv[1]);
    const std::string file = serval::read_file(argv[2]);
    for (size_t begin = 0; begin < file.size();) {
      const size_t end = std::min(file.find('\n', begin), file.size());
      const auto line = std::string_view(file).substr(begin, end - begin);
      std::printf("%s\n", fmt::format("{}", fmt::join(tokenizer.encode(line).ids, " ")).c_str());
      begin = end + 1;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenize_tool: %s\n", error.what());
    return 1;
  }
  return 0;
}
