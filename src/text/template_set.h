// The chat templates of a tokenizer directory, by name, and the variables that they are rendered with.
// Read as `transformers` does: chat_template.jinja is the one named "default" and each file
// additional_chat_templates/NAME.jinja another; without any of these, "chat_template" of
// tokenizer_config.json, which is a text or a list of {"name", "template"}; without that, chat_template.json
// of a processor.
//
//   const TemplateSet set = TemplateSet::from_directory("model");
//   const ChatTemplate& chat = set.choose("", /*has_tools=*/true);   // "tool_use" where there is one
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"

namespace serval {

class TemplateSet {
 public:
  // Throws where there is none, or where one does not parse.
  static TemplateSet from_directory(const std::string& directory);
  static bool exists_in(const std::string& directory);
  // "chat_template" of a tokenizer_config.json, or of what stands for it in a GGUF; absent where it has none.
  static std::optional<TemplateSet> from_config(const Json& config, const std::string& where);
  // A single template without a name of its own.
  explicit TemplateSet(ChatTemplate only);

  // The template called `name`; where that is empty, "tool_use" for a conversation with tools if the
  // tokenizer has several templates and one is called so, else "default". A UserError lists the names there
  // are.
  const ChatTemplate& choose(const std::string& name, bool has_tools) const;
  std::vector<std::string> names() const;

 private:
  TemplateSet() = default;
  std::string directory_;
  std::vector<std::pair<std::string, ChatTemplate>> templates_;
};

// bos_token, eos_token and the other special tokens of a directory, as template variables.
Json template_variables(const std::string& directory);
// The same of a tokenizer_config.json alone.
Json template_variables_of(const Json& tokenizer_config);

}  // namespace serval
