// For the scripts that compare with other tokenizers.
//
//   tokenize_tool TOKENIZER TEXT              encodes every line of a file and prints a line of ids for each
//   tokenize_tool TOKENIZER RECORDS OUT       records are 4 bytes of length and a text; OUT gets, for each,
//   the ids
//                                             with their spans, the ids without special tokens, and both
//                                             decoded
//   tokenize_tool --write TOKENIZER DIRECTORY [TOKEN...]   writes tokenizer.json with these tokens added,
//   every
//                                             second one special
//   tokenize_tool --bench TOKENIZER RECORDS   prints seconds: loading, encoding on one thread, on all, and
//   the tokens
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "text/tokenizer.h"
#include "text/tokenizer_files.h"

namespace {

using namespace serval;

std::vector<std::string_view> read_records(std::string_view file) {
  std::vector<std::string_view> records;
  for (size_t at = 0; at < file.size();) {
    uint32_t size = 0;
    if (at + sizeof size > file.size()) fail("the records are cut short");
    std::memcpy(&size, file.data() + at, sizeof size);
    at += sizeof size;
    if (at + size > file.size()) fail("the records are cut short");
    records.push_back(file.substr(at, size));
    at += size;
  }
  return records;
}

void put(std::string& out, int64_t number) {
  const auto value = static_cast<int32_t>(number);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& out, const std::string& text) {
  put(out, static_cast<int64_t>(text.size()));
  out += text;
}

void compare(const Tokenizer& tokenizer, const std::string& records_path, const std::string& out_path) {
  const std::string file = read_file(records_path);
  const auto records = read_records(file);
  const auto plain = tokenizer.encode_batch(records, {.add_special_tokens = false});
  const auto special = tokenizer.encode_batch(records);
  AtomicFile out(out_path);
  std::string text;
  for (size_t i = 0; i < records.size(); ++i) {
    text.clear();
    put(text, static_cast<int64_t>(special[i].ids.size()));
    for (const int32_t id : special[i].ids) put(text, id);
    for (const auto& span : special[i].spans) {
      put(text, span.begin);
      put(text, span.end);
    }
    put(text, static_cast<int64_t>(plain[i].ids.size()));
    for (const int32_t id : plain[i].ids) put(text, id);
    put_text(text, tokenizer.decode(special[i].ids));
    put_text(text, tokenizer.decode(special[i].ids, /*skip_special_tokens=*/true));
    out.write(text);
  }
  out.commit();
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void bench(const std::string& path, const std::string& records_path) {
  const double begin = seconds();
  const Tokenizer tokenizer = Tokenizer::from_path(path);
  const double load = seconds() - begin;
  const std::string file = read_file(records_path);
  const auto records = read_records(file);
  const auto time = [&](int threads) {
    set_num_threads(threads);
    double best = 1e9;
    for (int run = 0; run < 3; ++run) {
      const double start = seconds();
      (void)tokenizer.encode_batch(records);
      best = std::min(best, seconds() - start);
    }
    return best;
  };
  const double one = time(1), all = time(0);
  size_t tokens = 0;
  for (const Encoding& encoding : tokenizer.encode_batch(records)) tokens += encoding.ids.size();
  std::printf("%.6f %.6f %.6f %zu\n", load, one, all, tokens);
}

void print_ids(const Tokenizer& tokenizer, const std::string& path) {
  const std::string file = read_file(path);
  for (size_t begin = 0; begin < file.size();) {
    const size_t end = std::min(file.find('\n', begin), file.size());
    const auto line = std::string_view(file).substr(begin, end - begin);
    std::printf("%s\n", fmt::format("{}", fmt::join(tokenizer.encode(line).ids, " ")).c_str());
    begin = end + 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc >= 4 && std::string(argv[1]) == "--write") {
      std::vector<NewToken> tokens;
      for (int i = 4; i < argc; ++i) tokens.push_back({argv[i], i % 2 == 1});
      make_directories(argv[3]);
      write_tokenizer(Tokenizer::from_path(argv[2]).with_added_tokens(tokens).first, argv[3]);
    } else if (argc == 3) {
      print_ids(Tokenizer::from_path(argv[1]), argv[2]);
    } else if (argc == 4 && std::string(argv[1]) == "--bench") {
      bench(argv[2], argv[3]);
    } else if (argc == 4) {
      compare(Tokenizer::from_path(argv[1]), argv[2], argv[3]);
    } else {
      std::fprintf(stderr, "usage: tokenize_tool [--bench] TOKENIZER TEXT|RECORDS [OUT]\n");
      return 2;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenize_tool: %s\n", error.what());
    return 1;
  }
  return 0;
}
