#include "data/report.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/disk_vector.h"

namespace serval {
namespace {

constexpr int64_t kForgetEach = 4096;

double percent(int64_t part, int64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

// The length that `share` of the examples do not exceed.
int64_t quantile(const std::vector<int64_t>& count_of_length, int64_t examples, double share) {
  const auto wanted = static_cast<int64_t>(share * static_cast<double>(examples - 1)) + 1;
  int64_t seen = 0;
  for (size_t length = 0; length < count_of_length.size(); ++length)
    if ((seen += count_of_length[length]) >= wanted) return static_cast<int64_t>(length);
  return 0;
}

void add_lengths(DataReport& report, const std::vector<int64_t>& count_of_length, int64_t examples) {
  for (size_t length = 0; length < count_of_length.size(); ++length) {
    if (count_of_length[length] == 0) continue;
    if (report.shortest == 0) report.shortest = static_cast<int64_t>(length);
    const auto from = static_cast<int64_t>(std::bit_floor(length));
    if (report.histogram.empty() || report.histogram.back().from != from)
      report.histogram.push_back({from, 2 * from - 1, 0});
    report.histogram.back().examples += count_of_length[length];
  }
  report.median = quantile(count_of_length, examples, 0.5);
  report.p90 = quantile(count_of_length, examples, 0.9);
  report.p99 = quantile(count_of_length, examples, 0.99);
}

void add_warnings(DataReport& report, int64_t examples, const Tokenizer& tokenizer) {
  const DataStatistics& s = report.statistics;
  auto& warnings = report.warnings;
  const auto some = [&](int64_t count) { return fmt::format("{} of {} examples", count, examples); };
  if (report.double_bos > 0)
    warnings.push_back(some(report.double_bos) +
                       " begin with two BOS tokens: the template and the tokenizer each add one");
  if (!tokenizer.eos_id())
    warnings.emplace_back("the tokenizer names no end-of-text token: the model cannot learn to stop");
  else if (report.end_not_trained > 0)
    warnings.push_back(
        some(report.end_not_trained) +
        " never train the end-of-text token (cut, masked, or the template ends turns with another "
        "one): the model may not learn to stop");
  if (s.dropped > 0)
    warnings.push_back(
        fmt::format("{} of {} rows are left out: no token of them would be trained", s.dropped, s.rows));
  if (s.truncated > 0)
    warnings.push_back(fmt::format("{} of {} rows are longer than max_length and lose {} tokens", s.truncated,
                                   s.rows, s.tokens_cut));
  if (report.duplicates > 0) warnings.push_back(some(report.duplicates) + " are duplicates of earlier ones");
}

}  // namespace

DataReport report_on(const Examples& examples, const DataStatistics& statistics, const Tokenizer& tokenizer,
                     const std::string& directory, bool has_answers) {
  DataReport report;
  report.statistics = statistics;
  const auto bos = tokenizer.bos_id(), eos = tokenizer.eos_id();
  DiskVector<uint64_t> hashes(directory);
  std::vector<int64_t> count_of_length;
  for (int64_t i = 0; i < examples.size(); ++i) {
    const auto ids = examples.ids(i);
    const auto length = ids.size();
    if (count_of_length.size() <= length) count_of_length.resize(length + 1, 0);
    ++count_of_length[length];
    report.longest = std::max(report.longest, static_cast<int64_t>(length));
    if (bos && length >= 2 && ids[0] == *bos && ids[1] == *bos) ++report.double_bos;
    bool end_trained = false;
    uint64_t mask = 0;
    for (size_t token = 0; token < length; ++token) {
      const bool trained = examples.trained(i, static_cast<int64_t>(token));
      mask = mask * 0x9e3779b97f4a7c15ull + trained + 1;
      end_trained = end_trained || (trained && token > 0 && eos && ids[token] == *eos);
    }
    if (!end_trained && has_answers) ++report.end_not_trained;
    hashes.push_back(hash64(std::as_bytes(ids)) ^ mask);
    if (i % kForgetEach == kForgetEach - 1) examples.forget();
  }
  std::sort(hashes.begin(), hashes.end());
  report.duplicates = examples.size() - (std::unique(hashes.begin(), hashes.end()) - hashes.begin());
  if (examples.size() > 0)
    report.mean_length = static_cast<double>(examples.num_tokens()) / static_cast<double>(examples.size());
  add_lengths(report, count_of_length, examples.size());
  add_warnings(report, examples.size(), tokenizer);
  return report;
}

std::string DataReport::text(const std::string& name) const {
  constexpr int64_t kBarWidth = 40;
  const DataStatistics& s = statistics;
  std::string text = name + "\n";
  const auto line = [&](const char* what, const std::string& value) {
    text += fmt::format("  {:<12}{}\n", what, value);
  };
  line("rows", fmt::format("{}, {} examples of them kept", s.rows, s.examples));
  line("tokens",
       fmt::format("{}, trained on {} ({:.1f} %)", s.tokens, s.labels, percent(s.labels, s.tokens)));
  line("lengths", fmt::format("mean {:.1f}, shortest {}, median {}, 90 % {}, 99 % {}, longest {}",
                              mean_length, shortest, median, p90, p99, longest));
  line("cut", fmt::format("{} rows, {} tokens", s.truncated, s.tokens_cut));
  line("left out", fmt::format("{} rows without a trained token", s.dropped));
  line("duplicates", fmt::format("{}", duplicates));
  int64_t most = 1;
  for (const Bin& bin : histogram) most = std::max(most, bin.examples);
  for (const Bin& bin : histogram) {
    const auto width = static_cast<size_t>((bin.examples * kBarWidth + most - 1) / most);
    text +=
        fmt::format("  {:>7} - {:<7} {:>9}  {}\n", bin.from, bin.to, bin.examples, std::string(width, '#'));
  }
  for (const std::string& warning : warnings) text += "  warning: " + warning + "\n";
  return text;
}

Json DataReport::json(const std::string& name) const {
  const DataStatistics& s = statistics;
  Json json = Json::object();
  json.set("dataset", Json(name));
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, int64_t>>{{"rows", s.rows},
                                                              {"examples", s.examples},
                                                              {"tokens", s.tokens},
                                                              {"trained_tokens", s.labels},
                                                              {"truncated", s.truncated},
                                                              {"tokens_cut", s.tokens_cut},
                                                              {"left_out", s.dropped},
                                                              {"duplicates", duplicates},
                                                              {"double_bos", double_bos},
                                                              {"end_not_trained", end_not_trained},
                                                              {"shortest", shortest},
                                                              {"median", median},
                                                              {"p90", p90},
                                                              {"p99", p99},
                                                              {"longest", longest}})
    json.set(key, Json(value));
  json.set("mean_length", Json(mean_length));
  json.set("trained_share", Json(percent(s.labels, s.tokens) / 100));
  Json bins = Json::array();
  for (const Bin& bin : histogram) {
    Json one = Json::object();
    one.set("from", Json(bin.from));
    one.set("to", Json(bin.to));
    one.set("examples", Json(bin.examples));
    bins.push_back(std::move(one));
  }
  json.set("histogram", std::move(bins));
  Json list = Json::array();
  for (const std::string& warning : warnings) list.push_back(Json(warning));
  json.set("warnings", std::move(list));
  return json;
}

}  // namespace serval
