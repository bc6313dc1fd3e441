#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "data/source.h"

namespace serval {
namespace {

constexpr size_t kMostFiles = 1'000'000;

// One name against one piece of a pattern, without '/'. Backtracks over the last '*' alone, so the cost is
// their product at most.
bool name_matches(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, star_n = 0;
  while (n < name.size()) {
    bool fits = false;
    size_t step = 1;
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_n = n;
      continue;
    }
    if (p < pattern.size() && pattern[p] == '[' && pattern.find(']', p + 2) != std::string_view::npos) {
      const size_t close = pattern.find(']', p + 2);
      std::string_view set = pattern.substr(p + 1, close - p - 1);
      const bool negated = set.size() > 1 && (set[0] == '!' || set[0] == '^');
      if (negated) set.remove_prefix(1);
      for (size_t i = 0; i < set.size() && !fits; ++i) {
        const bool range = i + 2 < set.size() && set[i + 1] == '-';
        fits = range ? name[n] >= set[i] && name[n] <= set[i + 2] : name[n] == set[i];
        if (range) i += 2;
      }
      fits = fits != negated;
      step = close - p + 1;
    } else if (p < pattern.size()) {
      fits = pattern[p] == '?' || pattern[p] == name[n];
    }
    if (fits) {
      p += step;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++star_n;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::string_view> names_of(std::string_view path) {
  std::vector<std::string_view> names;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    names.push_back(path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return names;
}

}  // namespace

bool glob_matches(std::string_view pattern, std::string_view path) {
  const std::vector<std::string_view> pieces = names_of(pattern), names = names_of(path);
  // As with '*' in a name: what "**" before the last one took need not be tried again.
  size_t p = 0, n = 0, stars = std::string_view::npos, stars_n = 0;
  while (n < names.size()) {
    if (p < pieces.size() && pieces[p] == "**") {
      stars = p++;
      stars_n = n;
    } else if (p < pieces.size() && name_matches(pieces[p], names[n])) {
      ++p;
      ++n;
    } else if (stars != std::string_view::npos) {
      p = stars + 1;
      n = ++stars_n;
    } else {
      return false;
    }
  }
  return p == pieces.size();
}

std::vector<std::string> glob_files(const std::string& pattern) {
  namespace fs = std::filesystem;
  // The directory in front of the first name that is a pattern.
  size_t fixed = pattern.find_first_of("*?[");
  fixed = pattern.rfind('/', fixed);
  const std::string base = fixed == std::string::npos ? "." : fixed == 0 ? "/" : pattern.substr(0, fixed);
  const std::string below = fixed == std::string::npos ? pattern : pattern.substr(fixed + 1);
  std::vector<std::string> files;
  if (!directory_exists(base)) return files;
  const bool deep = below.find("**") != std::string::npos;
  const auto depth = static_cast<int>(std::count(below.begin(), below.end(), '/'));
  std::error_code error;
  for (fs::recursive_directory_iterator at(base, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end; at.increment(error)) {
    if (!deep && at.depth() >= depth) at.disable_recursion_pending();
    if (base_name(at->path().string()).starts_with('.')) {
      at.disable_recursion_pending();
      continue;
    }
    const std::string path = at->path().string();
    const std::string relative = path.substr(base.size() + (base == "/" ? 0 : 1));
    if (!glob_matches(below, relative) || !file_exists(path)) continue;
    files.push_back(fixed == std::string::npos ? relative : path);
    if (files.size() > kMostFiles) fail("{}: matches more than {} files", pattern, kMostFiles);
  }
  if (error) fail("{}: cannot list: {}", base, error.message());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace serval
