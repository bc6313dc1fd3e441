#include "base/dynamic_library.h"

#include <dlfcn.h>
#include <glob.h>
#include <unistd.h>

#include <cstdlib>

#include "base/error.h"
#include "base/text.h"

namespace serval {
namespace {

std::string binary_directory() {
  char path[4096];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  if (size <= 0) return ".";
  const std::string whole(path, static_cast<size_t>(size));
  return whole.substr(0, whole.rfind('/'));
}

void add_matches(std::vector<std::string>& directories, const std::string& pattern) {
  glob_t found{};
  if (::glob(pattern.c_str(), GLOB_ONLYDIR, nullptr, &found) == 0)
    for (size_t i = 0; i < found.gl_pathc; ++i) directories.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
}

}  // namespace

std::vector<std::string> python_package_directories(const std::string& pattern) {
  std::vector<std::string> environments, directories;
  for (const char* active : {"VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const char* environment = std::getenv(active)) environments.emplace_back(environment);
  environments.insert(environments.end(), {"/usr/local", "/usr"});
  if (const char* home = std::getenv("HOME")) environments.push_back(std::string(home) + "/.local");
  for (const std::string& environment : environments)
    for (const char* packages : {"site-packages", "dist-packages"})
      add_matches(directories, environment + "/lib/python3*/" + packages + "/" + pattern);
  return directories;
}

std::vector<std::string> library_directories() {
  const std::string own = binary_directory();
  std::vector<std::string> directories = {own, own + "/lib", own + "/../lib", ""};
  for (const char* toolkit : {"/usr/local/cuda/lib64", "/usr/local/cuda-13/lib64"})
    add_matches(directories, toolkit);
  for (const std::string& directory : python_package_directories("nvidia/*/lib"))
    directories.push_back(directory);
  return directories;
}

void* open_library(const std::string& file_name, const std::string& package) {
  std::vector<std::string> tried;
  for (const std::string& directory : library_directories()) {
    const std::string path = directory.empty() ? file_name : directory + "/" + file_name;
    if (!directory.empty() && ::access(path.c_str(), R_OK) != 0) {
      tried.push_back(directory);
      continue;
    }
    if (void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) return library;
    const char* reason = ::dlerror();
    if (directory.empty())
      tried.emplace_back("the system's library path");
    else
      tried.push_back(fmt::format("{} ({})", directory, reason == nullptr ? "cannot be opened" : reason));
  }
  fail(
      "{} was not found; install it with `pip install {}` or with the CUDA toolkit, or put it beside the "
      "program (looked in {})",
      file_name, package, join(tried, ", "));
}

void* library_symbol(void* library, const char* name) {
  void* symbol = ::dlsym(library, name);
  if (symbol == nullptr) fail("a CUDA library lacks the function {}: it is too old for this build", name);
  return symbol;
}

}  // namespace serval
