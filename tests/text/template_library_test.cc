#include "text/template_library.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "support/test_data.h"
#include "text/chat_spans.h"
#include "text/template_set.h"

namespace serval {
namespace {

Json conversation() {
  return Json::parse(
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
                                      {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]})",
      "row");
}

TEST(TemplateLibrary, EveryTemplateRendersMarksAndStops) {
  EXPECT_GE(library_templates().size(), 26u);
  for (const LibraryTemplate& entry : library_templates()) {
    SCOPED_TRACE(entry.name);
    ASSERT_FALSE(entry.source().empty());
    EXPECT_FALSE(entry.stop.empty());
    const ChatTemplate chat = library_chat_template(entry.name, Json::object());
    EXPECT_TRUE(chat.has_generation_spans());
    const AssistantSpans found = find_assistant_spans(chat, conversation());
    ASSERT_EQ(found.spans.size(), 2u);
    for (const MessageSpan& s : found.spans) {
      const std::string part = found.text.substr(static_cast<size_t>(s.text.begin),
                                                 static_cast<size_t>(s.text.end - s.text.begin));
      EXPECT_NE(part.find(s.message == 1 ? "Hello" : "c"), std::string::npos);
      // A model learns to end its turn.
      std::string end(entry.end_of_turn.empty() ? entry.eos_token : entry.end_of_turn);
      // Of gpt-oss, the last answer alone ends with the token that ends the generation.
      if (entry.name == "gpt-oss" && s.message == 1) end = "<|end|>";
      EXPECT_NE(part.find(end), std::string::npos) << part;
    }
    // The marks are where the spans would be found without them.
    const AssistantSpans plain = find_assistant_spans(chat, conversation(), {.use_marks = false});
    ASSERT_EQ(plain.spans.size(), 2u);
    EXPECT_EQ(plain.spans[0].text.begin, found.spans[0].text.begin);
    // That an earlier answer of gpt-oss ends otherwise than a last one, only the marks know.
    if (entry.name != "gpt-oss") {
      EXPECT_EQ(plain.spans[0], found.spans[0]);
    }
    // A prompt may hold the beginning of an answer already ("<think>").
    const int64_t begin = found.spans[1].text.begin, opened = plain.spans[1].text.begin - begin;
    EXPECT_TRUE(opened == 0 ||
                found.text.substr(static_cast<size_t>(begin), static_cast<size_t>(opened)) == "<think>\n");
    // An open end asks for an answer.
    EXPECT_TRUE(chat.render(conversation(), {.add_generation_prompt = true}).text.size() +
                    entry.eos_token.size() >=
                found.text.size());
  }
}

TEST(TemplateLibrary, NamesOfUnsloth) {
  for (const char* name :
       {"unsloth",        "zephyr",        "chatml",       "mistral",   "llama",        "vicuna",
        "vicuna_old",     "vicuna old",    "alpaca",       "gemma",     "gemma_chatml", "gemma2",
        "gemma2_chatml",  "llama-3",       "llama3",       "llama-3.1", "llama-31",     "llama-3.2",
        "llama-32",       "llama-3.3",     "llama-33",     "phi-3",     "phi-35",       "phi-3.5",
        "phi-4",          "qwen-2.5",      "qwen-25",      "qwen25",    "qwen2.5",      "qwen-2.5-coder",
        "qwen-25-coder",  "qwen2.5-coder", "qwen25-coder", "qwen-3",    "qwen3",        "qwen3-instruct",
        "qwen3-thinking", "gemma-3",       "gemma3",       "gemma-3n",  "gemma3n",      "lfm-2",
        "lfm-2.5",        "starling",      "yi-chat",      "gpt-oss",   "gemma-4",      "gemma4"})
    EXPECT_NE(find_library_template(name), nullptr) << name;
  EXPECT_EQ(find_library_template("nope"), nullptr);
  try {
    library_chat_template("chatlm", Json::object());
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'chatml'?"), std::string::npos) << error.what();
  }
}

// What Go makes of the Ollama templates, and that it is what the Jinja template of that name writes:
// tests/reference/check_ollama.py, which had Go at hand.
TEST(TemplateLibrary, OllamaTemplatesWriteWhatTheirJinjaTemplatesDo) {
  const std::string path = testing::fixture("text/ollama.json");
  const Json fixture = Json::parse(read_file(path), path);
  RenderOptions options;
  options.add_generation_prompt = true;
  options.now = fixture.at("now").as_int();
  std::map<std::string, std::string> sources;
  for (const auto& [name, source] : fixture.at("templates").as_object()) sources[name] = source.as_string();
  std::set<std::string> compared;
  for (const Json& expected : fixture.at("cases").as_array()) {
    const std::string& name = expected.at("name").as_string();
    SCOPED_TRACE(expected.dump());
    const LibraryTemplate& entry = *find_library_template(name);
    // A template that was edited since has to go through that script again.
    ASSERT_EQ(sources.at(std::string(entry.file)), entry.go_template());
    const Json* messages = expected.find("messages");
    if (messages == nullptr) continue;
    Json row = Json::object();
    row.set("messages", *messages);
    row.set("date_string", "26 Jul 2024");
    std::string text;
    try {
      text = library_chat_template(name, Json::object()).render(row, options).text;
    } catch (const UserError&) {
      continue;  // some refuse a system message, which Ollama's have to write
    }
    compared.insert(name);
    const std::string_view bos = entry.bos_token;  // Ollama writes it by itself
    if (!bos.empty() && text.starts_with(bos)) text.erase(0, bos.size());
    EXPECT_EQ(expected.at("text").as_string(), text);
  }
  EXPECT_EQ(compared.size(), library_templates().size());
}

// Only what Go's template language and Ollama know, each block closed.
void check_go_template(std::string_view text) {
  int open = 0;
  const std::set<std::string> fields = {".System", ".Prompt",  ".Response",  ".Messages",
                                        ".Role",   ".Content", "$.Messages", "$.System"};
  for (size_t at = 0; (at = text.find("{{", at)) != std::string_view::npos;) {
    const size_t end = text.find("}}", at);
    ASSERT_NE(end, std::string_view::npos);
    std::string action(text.substr(at + 2, end - at - 2));
    std::erase_if(action, [](char c) { return c == '-' || c == '(' || c == ')'; });
    while (!action.empty() && action[0] == ' ') action.erase(0, 1);
    if (action.starts_with("if ") || action.starts_with("range ")) open++;
    if (action.starts_with("end")) open--;
    ASSERT_GE(open, 0);
    for (size_t i = 0; i < action.size();) {
      const size_t blank = std::min(action.find(' ', i), action.size());
      const std::string word = action.substr(i, blank - i);
      EXPECT_TRUE(!(word.starts_with(".") || word.starts_with("$.")) || fields.contains(word)) << word;
      i = blank + 1;
    }
    at = end + 2;
  }
  EXPECT_EQ(open, 0);
}

TEST(TemplateLibrary, Modelfiles) {
  for (const LibraryTemplate& entry : library_templates()) {
    SCOPED_TRACE(entry.name);
    ASSERT_FALSE(entry.go_template().empty());
    check_go_template(entry.go_template());
    const std::string text =
        modelfile(entry, "./m.gguf", {.go_template = true, .system = "Say \"hi\".", .temperature = 0.5});
    EXPECT_TRUE(text.starts_with("FROM ./m.gguf\nTEMPLATE \"\"\""));
    EXPECT_NE(text.find("PARAMETER stop \""), std::string::npos);
    EXPECT_NE(text.find("SYSTEM \"\"\"Say \"hi\".\"\"\"\n"), std::string::npos);
    EXPECT_NE(text.find("PARAMETER temperature 0.5\n"), std::string::npos);
  }
  const LibraryTemplate& entry = *find_library_template("chatml");
  EXPECT_EQ(modelfile(entry, "a b.gguf"),
            "FROM a b.gguf\nPARAMETER stop \"<|im_end|>\"\nPARAMETER stop \"<|im_start|>\"\n");
  EXPECT_THROW(modelfile(entry, "a\nADAPTER b"), UserError);
  EXPECT_THROW(modelfile(entry, "a", {.system = "\"\"\""}), UserError);
}

TEST(TemplateSet, FilesAndNames) {
  const std::string directory = testing::scratch_directory();
  const Json chat = Json::parse(R"({"messages": []})", "chat");
  write_file_atomically(
      directory + "/tokenizer_config.json",
      R"({"bos_token": "<s>", "extra_special_tokens": {"image_token": "<image>"}, "chat_template": [
                            {"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})");
  write_file_atomically(directory + "/special_tokens_map.json",
                        R"({"eos_token": {"content": "</s>"}, "bos_token": "old"})");
  TemplateSet set = TemplateSet::from_directory(directory);
  EXPECT_EQ(set.choose("", false).render(chat).text, "d");
  EXPECT_EQ(set.choose("", true).render(chat).text, "t");
  EXPECT_EQ(set.choose("default", true).render(chat).text, "d");
  EXPECT_THROW(set.choose("rag", false), UserError);
  EXPECT_EQ(template_variables(directory).dump(),
            R"({"bos_token": "<s>", "eos_token": "</s>", "image_token": "<image>"})");
  // Files win over the configuration.
  make_directories(directory + "/additional_chat_templates");
  write_file_atomically(directory + "/additional_chat_templates/rag.jinja", "r{{ bos_token }}");
  write_file_atomically(directory + "/chat_template.jinja", "f");
  set = TemplateSet::from_directory(directory);
  EXPECT_EQ(set.choose("", true).render(chat).text, "f");
  EXPECT_EQ(set.choose("rag", false).render(chat).text, "r<s>");
  EXPECT_EQ(set.names(), (std::vector<std::string>{"default", "rag"}));
  EXPECT_EQ(open_chat_template("", directory).render(chat).text, "f");
  EXPECT_EQ(
      open_chat_template(directory + "/additional_chat_templates/rag.jinja", directory).render(chat).text,
      "r<s>");
  EXPECT_THROW(open_chat_template("nowhere/x.jinja", directory), UserError);
  write_file_atomically(directory + "/chat_template.jinja", "{% if %}");
  EXPECT_THROW(TemplateSet::from_directory(directory), UserError);
}

TEST(ChatTemplate, ContinuesTheFinalMessage) {
  const ChatTemplate chat = library_chat_template("chatml", Json::object());
  const Json row = conversation();
  const std::string open = chat.render(row, {.continue_final_message = "content"}).text;
  EXPECT_TRUE(open.ends_with("<|im_start|>assistant\nc")) << open;
  EXPECT_THROW(chat.render(row, {.add_generation_prompt = true, .continue_final_message = "content"}),
               UserError);
  EXPECT_THROW(chat.render(row, {.continue_final_message = "nothing"}), UserError);
  EXPECT_THROW(chat.render(Json::parse(R"({"messages": []})", "r"), {.continue_final_message = "content"}),
               UserError);
  EXPECT_THROW(chat.render(Json::parse(R"({"messages": ["a"]})", "r")), UserError);
}

}  // namespace
}  // namespace serval
