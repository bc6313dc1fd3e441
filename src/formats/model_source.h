// Where a model lies that the user named by a path or by its name on the Hugging Face Hub.
//
//   std::string directory = resolve_model("Qwen/Qwen3-0.6B");       // from the local Hugging Face cache
//   std::string other = resolve_model("Qwen/Qwen3-0.6B@v1.1");      // a branch, tag or commit of it
#pragma once
#include <string>

namespace serval {

// A path that exists comes back as it is; a name becomes its snapshot in the cache (HF_HUB_CACHE, HF_HOME,
// XDG_CACHE_HOME, ~/.cache). Nothing is downloaded: what is not there is a UserError that says how to get it.
std::string resolve_model(const std::string& name_or_path);

}  // namespace serval
