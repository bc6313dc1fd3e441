// serval tokenize: lines from stdin, a line of ids for each on stdout, or the way back.
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/text.h"
#include "cli/cli.h"
#include "text/tokenizer.h"

namespace serval {
namespace {

constexpr size_t kReadBytes = size_t{4} << 20;
constexpr size_t kMaxLineBytes = size_t{1} << 28;

// Calls `handle` with the whole lines of stdin that are there, many at a time; the last may lack its newline.
template <class Handle>
void for_each_batch_of_lines(const Handle& handle) {
  std::string buffer;
  std::vector<std::string_view> lines;
  size_t searched = 0;
  for (bool open = true; open;) {
    const size_t held = buffer.size();
    buffer.resize(held + kReadBytes);
    const ssize_t got = ::read(0, buffer.data() + held, kReadBytes);
    if (got < 0 && errno != EINTR) fail("stdin cannot be read: {}", std::strerror(errno));
    buffer.resize(held + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    open = got != 0;
    lines.clear();
    size_t begin = 0;
    for (size_t end; (end = buffer.find('\n', std::max(begin, searched))) != std::string::npos;
         begin = end + 1)
      lines.push_back(std::string_view(buffer).substr(begin, end - begin));
    if (!open && begin < buffer.size()) {
      lines.push_back(std::string_view(buffer).substr(begin));
      begin = buffer.size();
    }
    if (!lines.empty()) handle(lines);
    buffer.erase(0, begin);
    searched = buffer.size();
    if (buffer.size() > kMaxLineBytes) fail("stdin: a line of more than {}", human_bytes(kMaxLineBytes));
  }
}

void put_number(std::string& out, int64_t number) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  out.append(digits, end);
}

void put_ids(std::string& out, const Encoding& encoding, std::string_view between) {
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    if (i > 0) out += between;
    put_number(out, encoding.ids[i]);
  }
}

void put_json(std::string& out, const Tokenizer& tokenizer, const Encoding& encoding) {
  out += "{\"ids\": [";
  put_ids(out, encoding, ", ");
  out += "], \"offsets\": [";
  for (size_t i = 0; i < encoding.spans.size(); ++i) {
    out += i > 0 ? ", [" : "[";
    put_number(out, encoding.spans[i].begin);
    out += ", ";
    put_number(out, encoding.spans[i].end);
    out += ']';
  }
  out += "], \"pieces\": [";
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    if (i > 0) out += ", ";
    out += json_quote(tokenizer.id_to_token(encoding.ids[i]));
  }
  out += "]}";
}

std::vector<int32_t> parse_ids(std::string_view line, const Tokenizer& tokenizer, int64_t line_number) {
  std::vector<int32_t> ids;
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  for (size_t at = 0; at < line.size();) {
    if (is_blank(line[at])) {
      ++at;
      continue;
    }
    int32_t id = -1;
    const auto [end, error] = std::from_chars(line.data() + at, line.data() + line.size(), id);
    const auto next = static_cast<size_t>(end - line.data());
    if (error != std::errc() || id < 0 || (next < line.size() && !is_blank(line[next])))
      fail("stdin:{}: expected ids separated by blanks, found {}", line_number,
           in_quotes(line.substr(at, 40)));
    if (id >= tokenizer.vocab_size())
      fail("stdin:{}: the id {} is not below {}, the size of the vocabulary", line_number, id,
           tokenizer.vocab_size());
    ids.push_back(id);
    at = next;
  }
  return ids;
}

}  // namespace

int run_tokenize(const Arguments& arguments) {
  const Settings& s = arguments.settings;
  set_num_threads(static_cast<int>(s.integer_or("num_threads", 0)));
  const bool json = s.flag("json"), special = s.flag("special");
  const Tokenizer tokenizer =
      Tokenizer::from_path(s.text("tokenizer"), {.tiktoken_pattern = s.text_or("tokenizer_pattern", "")});
  for (const std::string& note : tokenizer.notes()) log_info("note: {}", note);
  int64_t line_number = 0;
  std::string out;
  for_each_batch_of_lines([&](const std::vector<std::string_view>& lines) {
    out.clear();
    if (s.flag("decode")) {
      for (const std::string_view line : lines) {
        const std::string text =
            tokenizer.decode(parse_ids(line, tokenizer, ++line_number), /*skip_special_tokens=*/!special);
        out += json ? json_quote(text) : text;
        out += '\n';
      }
    } else {
      for (const Encoding& encoding : tokenizer.encode_batch(lines, {.add_special_tokens = special})) {
        if (json) {
          put_json(out, tokenizer, encoding);
        } else {
          put_ids(out, encoding, " ");
        }
        out += '\n';
      }
    }
    print_result(out);
  });
  return 0;
}

}  // namespace serval
