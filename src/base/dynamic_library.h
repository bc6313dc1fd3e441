// Libraries that are opened at run time, so that the program starts where they are missing.
//
//   void* cudnn = open_library("libcudnn.so.9", "nvidia-cudnn-cu13");        // never closed
//   auto create = reinterpret_cast<decltype(&cudnnCreate)>(library_symbol(cudnn, "cudnnCreate"));
#pragma once
#include <string>
#include <vector>

namespace serval {

// Looks beside the binary, where the system's loader looks, in the CUDA toolkit, and in the nvidia packages
// of Python environments. Not found: a UserError that names the package and where it was looked for.
void* open_library(const std::string& file_name, const std::string& package);
void* library_symbol(void* library,
                     const char* name);  // a missing symbol is a UserError: the version is wrong

// Folders of that name below the packages of the Python environments that are looked into ("pyarrow",
// "nvidia/*/lib"): the active one, the user's own, the system's.
std::vector<std::string> python_package_directories(const std::string& pattern);

// The directories that open_library tries, in order; "" stands for the system's loader.
std::vector<std::string> library_directories();

}  // namespace serval
