#include "config/verbs.h"

#include "config/train_config.h"

namespace serval {
namespace {

// A key of the training table, for a verb that means the same by it.
Key shared(std::string_view name, const std::string& section) {
  Key key = train_table().at(name);
  key.section = section;
  return key;
}

void add_model_keys(std::vector<Key>& keys) {
  Key model = shared("model_name_or_path", "model");
  model.name = "model";
  model.aliases = {"model_name_or_path", "base_model"};
  model.meaning = "Checkpoint: a Hugging Face directory, or org/name in the local cache.";
  model.unset.clear();
  model.required = true;
  keys.push_back(std::move(model));
  keys.push_back({.name = "adapter",
                  .meaning = "PEFT adapter to apply: a directory.",
                  .section = "model",
                  .aliases = {"adapter_name_or_path"},
                  .unset = "none"});
  keys.push_back(shared("tokenizer_name_or_path", "model"));
  keys.back().unset = "beside the model";
  keys.push_back(shared("chat_template", "model"));
  keys.push_back(shared("dtype", "model"));
  keys.push_back(shared("ignore_config_key", "model"));
}

void add_system_keys(std::vector<Key>& keys) {
  keys.push_back(shared("device", "system"));
  keys.push_back(shared("num_threads", "system"));
  keys.push_back(shared("check_nan", "system"));
}

void add_sampling_keys(std::vector<Key>& keys, double temperature) {
  const std::string section = "generation";
  keys.push_back(
      {.name = "system", .meaning = "System message before the conversation.", .section = section});
  keys.push_back({.name = "temperature",
                  .kind = Kind::number,
                  .fallback = temperature,
                  .meaning = "0 takes the likeliest token each time; higher is more varied.",
                  .section = section,
                  .origin = "Transformers",
                  .minimum = 0,
                  .maximum = 100});
  keys.push_back({.name = "top_p",
                  .kind = Kind::number,
                  .fallback = 1.0,
                  .meaning = "Draw from the likeliest tokens that together reach this probability.",
                  .section = section,
                  .origin = "Transformers",
                  .minimum = 0,
                  .maximum = 1,
                  .above_minimum = true});
  keys.push_back({.name = "top_k",
                  .kind = Kind::integer,
                  .fallback = 0,
                  .meaning = "Draw from this many likeliest tokens; 0 is all.",
                  .section = section,
                  .origin = "Transformers",
                  .minimum = 0,
                  .maximum = 1e9});
  keys.push_back({.name = "max_new_tokens",
                  .kind = Kind::integer,
                  .fallback = 256,
                  .meaning = "Stop after this many tokens.",
                  .section = section,
                  .origin = "Transformers",
                  .minimum = 1,
                  .maximum = 16777216});
  keys.push_back({.name = "stop",
                  .kind = Kind::texts,
                  .fallback = Json::array(),
                  .meaning = "Stop before this text; repeat the key for several.",
                  .section = section,
                  .aliases = {"stop_strings"},
                  .commas = false});
  keys.push_back(shared("seed", section));
  keys.back().meaning = "Seed of the draws.";
}

Verb make_train() {
  return {.name = "train",
          .summary = "Fine-tune a model on a dataset; write an adapter and a merged checkpoint.",
          .positional = "CONFIG.yaml",
          .positional_meaning = "Configuration file; keys on the command line win.",
          .max_positionals = 1,
          .reads_config = true,
          .examples = {"train config.yaml", "train config.yaml --learning-rate 1e-4 --dry-run",
                       "train --model ./model --dataset chats.jsonl --output-dir out --max-steps 100",
                       "train --model ./model --dataset chats.jsonl --use-peft false",
                       "train config.yaml --resume-from-checkpoint"},
          .table = train_table()};
}

Verb make_plan() {
  std::vector<Key> keys = train_table().keys();
  keys.push_back({.name = "program",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning = "Print the program of a step: a line an op, identical layers once.",
                  .section = "plan"});
  keys.push_back({.name = "json",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning = "Print the plan as JSON.",
                  .section = "plan"});
  keys.push_back({.name = "profile",
                  .meaning =
                      "Device profile that the expected time is computed from: h200, or a file of serval "
                      "bench --profile. One of a GPU is planned for, also where there is none.",
                  .section = "plan",
                  .aliases = {"device_profile"},
                  .unset = "measured on this machine"});
  return {.name = "plan",
          .summary = "Tell the memory, FLOPs and expected time of a training run before a weight is read.",
          .positional = "CONFIG.yaml",
          .positional_meaning = "Configuration file of a training run; keys on the command line win.",
          .max_positionals = 1,
          .reads_config = true,
          .examples = {"plan config.yaml", "plan --model ./model --max-length 4096 --packing",
                       "plan config.yaml --program", "plan config.yaml --device cuda --profile h200"},
          .table = KeyTable(std::move(keys))};
}

Verb make_generate() {
  std::vector<Key> keys;
  add_model_keys(keys);
  keys.push_back({.name = "prompt",
                  .meaning = "What the user says; with raw, the text to continue.",
                  .section = "generation"});
  keys.push_back({.name = "prompts",
                  .meaning =
                      "Instead of a prompt, a JSONL file of conversations: each is answered up to its last "
                      "message, and a line {\"prompt\", \"expected\", \"answer\"} goes to stdout.",
                  .section = "generation"});
  keys.push_back({.name = "batch_size",
                  .kind = Kind::integer,
                  .meaning = "Of a file of prompts, how many are answered at a time.",
                  .section = "generation",
                  .aliases = {"per_device_eval_batch_size", "generation_batch_size", "max_num_seqs"},
                  .minimum = 1,
                  .maximum = 65536,
                  .unset = "32 on a GPU, 1 on the CPU"});
  keys.push_back({.name = "raw",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning = "Continue the prompt as it stands, without the chat template.",
                  .section = "generation"});
  add_sampling_keys(keys, 0.0);
  add_system_keys(keys);
  return {
      .name = "generate",
      .summary = "Answer a prompt, or each of a file; the text alone goes to stdout.",
      .examples = {"generate --model ./model --prompt 'Who are you?'",
                   "generate --model ./model --adapter out --prompt 'Who are you?' --max-new-tokens 50",
                   "generate --model ./model --prompts held_out.jsonl --batch-size 16",
                   "generate --model ./model --raw --prompt 'Once upon a time' --temperature 0.8 --seed 1"},
      .table = KeyTable(std::move(keys))};
}

Verb make_chat() {
  std::vector<Key> keys;
  add_model_keys(keys);
  add_sampling_keys(keys, 0.7);
  add_system_keys(keys);
  return {.name = "chat",
          .summary = "Talk to a model; answers appear as they are made.",
          .examples = {"chat --model ./model", "chat --model ./model --adapter out --system 'Be brief.'"},
          .table = KeyTable(std::move(keys))};
}

Verb make_eval() {
  std::vector<Key> keys;
  add_model_keys(keys);
  Key dataset = shared("dataset", "data");
  dataset.meaning = "What to evaluate on, as in serval train; where no split is named, test or validation.";
  dataset.unset.clear();
  dataset.required = true;
  keys.push_back(std::move(dataset));
  for (const char* name : {"dataset_text_field",
                           "dataset_format",
                           "dataset_columns",
                           "merged_prompt",
                           "output_column_name",
                           "max_length",
                           "truncation_mode",
                           "assistant_only_loss",
                           "completion_only_loss",
                           "train_on_roles",
                           "train_on_inputs",
                           "train_on_eos",
                           "eot_tokens",
                           "last_turn_only",
                           "instruction_part",
                           "response_part",
                           "per_device_eval_batch_size",
                           "dataset_cache",
                           "dataset_cache_dir",
                           "dataset_cache_limit"})
    keys.push_back(shared(name, "data"));
  keys.push_back({.name = "json",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning = "Print the result as one JSON object.",
                  .section = "output"});
  add_system_keys(keys);
  return {.name = "eval",
          .summary = "Mean negative log-likelihood and perplexity of a dataset.",
          .examples = {"eval --model ./model --dataset held_out.jsonl",
                       "eval --model ./model --adapter out --dataset held_out.jsonl --json"},
          .table = KeyTable(std::move(keys))};
}

Key json_key() {
  return {.name = "json",
          .kind = Kind::flag,
          .fallback = false,
          .meaning = "Print as JSON.",
          .section = "output"};
}

Verb make_inspect() {
  return {.name = "inspect",
          .summary = "Tell what a file or directory holds: tensors, types, shapes, settings.",
          .positional = "FILE|DIR",
          .positional_meaning =
              "A safetensors file, a checkpoint, an adapter, a tokenizer or its file, a GGUF or "
              "a dataset.",
          .min_positionals = 1,
          .max_positionals = 1,
          .examples = {"inspect ./model", "inspect out/adapter_model.safetensors --json"},
          .table = KeyTable({json_key()})};
}

Verb make_tokenize() {
  std::vector<Key> keys;
  keys.push_back({.name = "tokenizer",
                  .meaning = "A directory with a tokenizer, or the tokenizer's file itself.",
                  .section = "input",
                  .aliases = {"tokenizer_name_or_path", "model"},
                  .required = true});
  keys.push_back({.name = "tokenizer_pattern",
                  .meaning =
                      "How a tiktoken file cuts text: the name of an encoding (cl100k_base, o200k_base, "
                      "llama3, qwen, kimi ...) or a regular expression.",
                  .section = "input",
                  .unset = "as the file's name or its number of ranks says"});
  keys.push_back({.name = "special",
                  .kind = Kind::flag,
                  .fallback = true,
                  .meaning = "Add the special tokens that the tokenizer puts before and after a text; those "
                             "written in the text are recognised in any case. --no-special with decode "
                             "leaves special tokens out.",
                  .section = "input"});
  keys.push_back({.name = "decode",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning = "The way back: lines of ids become lines of text; with json, JSON strings.",
                  .section = "input"});
  keys.push_back(json_key());
  keys.back().meaning = "Print an object a line: ids, offsets (bytes of the line), pieces.";
  keys.push_back(shared("num_threads", "system"));
  return {.name = "tokenize",
          .summary = "Turn lines of stdin into lines of token ids, or back.",
          .examples = {"tokenize --tokenizer ./model",
                       "tokenize --tokenizer ./model/tokenizer.json --no-special --json",
                       "tokenize --tokenizer ./model --decode"},
          .table = KeyTable(std::move(keys))};
}

Verb make_render() {
  std::vector<Key> keys;
  keys.push_back({.name = "tokenizer",
                  .meaning = "Directory of a tokenizer: its chat templates and special tokens.",
                  .section = "template",
                  .unset = "the template is given alone"});
  keys.push_back({.name = "template",
                  .meaning = "Instead of the tokenizer's own, a file with a chat template, or the name of a "
                             "built-in one (chatml, llama-3, gemma-3, ...).",
                  .section = "template",
                  .aliases = {"chat_template"},
                  .unset = "the tokenizer's"});
  keys.push_back({.name = "template_name",
                  .meaning = "Which template of a tokenizer that has several.",
                  .section = "template",
                  .unset = "tool_use for rows with tools where there is one, else default"});
  keys.push_back({.name = "conversations",
                  .meaning =
                      "JSONL file, - for standard input. A row is {\"messages\": [...], \"tools\": [...], "
                      "...}; its other keys are variables of the template.",
                  .section = "input",
                  .required = true});
  keys.push_back({.name = "add_generation_prompt",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning = "End with the beginning of an answer.",
                  .section = "rendering",
                  .origin = "Transformers"});
  keys.push_back({.name = "continue_final_message",
                  .meaning = "Leave the last message open, after its value of this key.",
                  .section = "rendering",
                  .origin = "Transformers",
                  .unset = "the message is closed",
                  .implied = "content"});
  keys.push_back({.name = "now",
                  .kind = Kind::integer,
                  .meaning = "Unix time that strftime_now shows.",
                  .section = "rendering",
                  .unset = "the clock"});
  keys.push_back({.name = "spans",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning =
                      "Print {\"text\", \"spans\", \"messages\"}: byte ranges [begin, end) of the UTF-8 text "
                      "that the assistant wrote, and of each the index of its message.",
                  .section = "output"});
  keys.push_back({.name = "roles",
                  .kind = Kind::texts,
                  .fallback = Json(Json::Array{Json("assistant")}),
                  .meaning = "Roles whose spans are printed.",
                  .section = "output"});
  keys.push_back(shared("num_threads", "system"));
  return {.name = "render",
          .summary = "Render conversations with a chat template: a JSON string a line, or {\"error\"}.",
          .examples = {"render --tokenizer ./model --conversations chats.jsonl",
                       "render --template chat.jinja --conversations chats.jsonl --add-generation-prompt",
                       "render --template chatml --conversations chats.jsonl --spans"},
          .table = KeyTable(std::move(keys))};
}

// What the sub-verbs of data share: how rows are read.
void add_shape_keys(std::vector<Key>& keys) {
  for (const char* name : {"dataset_format", "dataset_columns", "dataset_text_field", "merged_prompt",
                           "output_column_name", "conversation_extension", "data_seed"})
    keys.push_back(shared(name, "data"));
  keys.back().unset = "0";
}

Verb make_data() {
  return {.name = "data",
          .summary = "Look at datasets and rewrite them: serval data --help lists how.",
          .positional = "VERB",
          .positional_meaning = "What to do.",
          .max_positionals = 1000000,
          .examples = {"data convert sharegpt.json"},
          .table = KeyTable({})};
}

Verb make_data_convert() {
  std::vector<Key> keys;
  add_shape_keys(keys);
  keys.push_back({.name = "to",
                  .fallback = "auto",
                  .meaning = "What to write: auto (messages, or what else the rows are), messages (of "
                             "preference pairs the chosen answers), prompt_completion (messages; the last "
                             "answer is the completion).",
                  .section = "output",
                  .choices = {"auto", "messages", "prompt_completion"}});
  keys.push_back({.name = "output",
                  .meaning = "JSONL file to write.",
                  .section = "output",
                  .aliases = {"out"},
                  .unset = "stdout"});
  return {.name = "data convert",
          .summary = "Write datasets of any shape as JSONL of messages.",
          .positional = "FILE...",
          .positional_meaning = "Datasets of any shape (docs/data.md).",
          .min_positionals = 1,
          .max_positionals = 1000000,
          .examples = {"data convert sharegpt.json --output messages.jsonl",
                       "data convert pairs.jsonl --to messages",
                       "data convert table.jsonl --dataset-columns prompt=question,completion=answer"},
          .table = KeyTable(std::move(keys))};
}

Verb make_info() {
  return {.name = "info",
          .summary = "Tell the version, the processor, the chosen kernels and the memory.",
          .examples = {"info", "info --json"},
          .table = KeyTable({json_key()})};
}

Verb make_bench() {
  std::vector<Key> keys;
  keys.push_back({.name = "shape",
                  .meaning =
                      "Sizes of a known model: qwen3-0.6b, qwen3-1.7b, qwen3-4b, qwen3-8b, qwen3-14b, "
                      "qwen3-32b, qwen2.5-7b, llama3-1b, llama3-3b, llama3-8b, llama3-70b, mistral-7b.",
                  .section = "model",
                  .unset = "qwen3-0.6b to train and load, qwen3-8b for all else"});
  keys.push_back({.name = "config",
                  .meaning = "Instead of a shape, a config.json or the directory that holds it.",
                  .section = "model"});
  keys.push_back(
      {.name = "model",
       .meaning = "For load, a checkpoint on disk; else one of random weights is written and removed.",
       .section = "model",
       .aliases = {"model_name_or_path"}});
  keys.push_back({.name = "dtype",
                  .fallback = "bfloat16",
                  .meaning = "Type that weights are held and products computed in.",
                  .section = "model",
                  .choices = {"bfloat16", "float32"},
                  .synonyms = {{"bf16", "bfloat16"}, {"fp32", "float32"}, {"f32", "float32"}}});
  const auto work = [&](const char* name, const char* meaning, const char* unset) {
    Key key = shared(name, "work");
    key.meaning = meaning;
    key.fallback = Json();
    key.unset = unset;
    keys.push_back(std::move(key));
  };
  work("per_device_train_batch_size", "Rows in a micro-step; for generate, sequences at a time.",
       "2 on a GPU, 1 on the CPU; for generate 32 and 1");
  work("max_length", "Tokens of a row.", "2048 on a GPU, 1024 on the CPU");
  work("gradient_accumulation_steps", "Micro-steps in an optimiser step.", "4 on a GPU, 1 on the CPU");
  keys.push_back({.name = "packed",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning = "Pack rows from documents whose lengths are log-normal (median 400, sigma 1, at "
                             "most max_length) instead of one document a row; padding is never counted.",
                  .section = "work",
                  .aliases = {"packing"}});
  keys.push_back({.name = "steps",
                  .kind = Kind::integer,
                  .fallback = 3,
                  .meaning = "Timed steps, after one that is not.",
                  .section = "work",
                  .minimum = 1,
                  .maximum = 100000});
  keys.push_back(shared("lora_r", "work"));
  keys.push_back({.name = "full",
                  .kind = Kind::flag,
                  .fallback = false,
                  .meaning = "Train all weights instead of an adapter.",
                  .section = "work"});
  keys.push_back(shared("optim", "work"));
  keys.push_back({.name = "recompute",
                  .fallback = "cheap",
                  .meaning = "What backward computes again instead of keeping it, as in serval train.",
                  .section = "work",
                  .choices = {"none", "cheap", "blocks"}});
  keys.push_back(shared("activation_offloading", "work"));
  keys.push_back({.name = "op_times",
                  .kind = Kind::flag,
                  .fallback = true,
                  .meaning = "Run one more step that measures each op.",
                  .section = "work"});
  keys.push_back({.name = "tokens",
                  .kind = Kind::integer,
                  .meaning = "Rows of the operands of gemm and ops.",
                  .section = "work",
                  .minimum = 1,
                  .maximum = 1e7,
                  .unset = "4096 on a GPU, 256 on the CPU"});
  keys.push_back({.name = "prompt_length",
                  .kind = Kind::integer,
                  .fallback = 512,
                  .meaning = "Tokens of each prompt of generate.",
                  .section = "work",
                  .aliases = {"input_len"},
                  .minimum = 1,
                  .maximum = 1e7});
  keys.push_back({.name = "max_new_tokens",
                  .kind = Kind::integer,
                  .fallback = 128,
                  .meaning = "Tokens that generate adds to each prompt.",
                  .section = "work",
                  .aliases = {"output_len"},
                  .minimum = 2,
                  .maximum = 1e7});
  keys.push_back({.name = "only",
                  .meaning = "Of gemm and ops, those whose name holds this text.",
                  .section = "work",
                  .unset = "all"});
  keys.push_back(shared("device", "system"));
  keys.push_back(shared("graphs", "system"));
  keys.push_back(shared("deterministic", "system"));
  keys.push_back(shared("num_threads", "system"));
  keys.push_back({.name = "profile",
                  .meaning =
                      "File to write what was measured to, for serval plan --profile; what it holds of "
                      "other targets stays.",
                  .section = "output",
                  .unset = "none"});
  keys.push_back(json_key());
  return {
      .name = "bench",
      .summary = "Measure training and generation with random weights, and what the machine could do.",
      .positional = "train|generate|gemm|ops|copy|link|load",
      .positional_meaning =
          "Steps of a model (the default), its answers, its products, each op, memory, the link to it, or "
          "reading a checkpoint.",
      .max_positionals = 1,
      .examples = {"bench --shape qwen3-8b", "bench --shape qwen3-0.6b --packed --json",
                   "bench --config ./model --max-length 4096 --recompute blocks",
                   "bench generate --shape qwen3-8b --batch-size 32 --prompt-length 512",
                   "bench --shape qwen3-8b --full --optim adamw_8bit",
                   "bench gemm --shape qwen3-8b --profile gpu.json", "bench ops --only norm", "bench copy",
                   "bench load --model ./model"},
      .table = KeyTable(std::move(keys))};
}

// A verb that takes a training run's configuration and looks at its data.
Verb make_data_look(const char* name, const char* summary, std::vector<std::string> examples,
                    std::vector<Key> more) {
  std::vector<Key> keys = train_table().keys();
  for (Key& key : more) keys.push_back(std::move(key));
  return {.name = name,
          .summary = summary,
          .positional = "CONFIG.yaml",
          .positional_meaning = "Configuration file of a training run; keys on the command line win.",
          .max_positionals = 1,
          .reads_config = true,
          .examples = std::move(examples),
          .table = KeyTable(std::move(keys))};
}

Verb make_data_preview() {
  return make_data_look("data preview", "Show what would be trained on: text, tokens and their ids.",
                        {"data preview --tokenizer ./model --dataset chats.jsonl",
                         "data preview config.yaml --preview 20 --format html"},
                        {{.name = "format",
                          .fallback = "text",
                          .meaning = "Text for the terminal (coloured there), or a page of HTML.",
                          .section = "output",
                          .choices = {"text", "html"}},
                         {.name = "first_row",
                          .kind = Kind::integer,
                          .fallback = 1,
                          .meaning = "Number of the first row to show.",
                          .section = "output",
                          .minimum = 1,
                          .maximum = 1e15},
                         {.name = "ids",
                          .kind = Kind::flag,
                          .fallback = true,
                          .meaning = "Show the tokens with their ids too.",
                          .section = "output"}});
}

Verb make_data_stats() {
  return make_data_look(
      "data stats", "Count rows, tokens, lengths, trained share, duplicates; say what looks wrong.",
      {"data stats --model ./model --dataset chats.jsonl", "data stats config.yaml --json"}, {json_key()});
}

}  // namespace

const Verb& train_verb() {
  static const Verb verb = make_train();
  return verb;
}
const Verb& plan_verb() {
  static const Verb verb = make_plan();
  return verb;
}
const Verb& generate_verb() {
  static const Verb verb = make_generate();
  return verb;
}
const Verb& chat_verb() {
  static const Verb verb = make_chat();
  return verb;
}
const Verb& eval_verb() {
  static const Verb verb = make_eval();
  return verb;
}
const Verb& inspect_verb() {
  static const Verb verb = make_inspect();
  return verb;
}
const Verb& tokenize_verb() {
  static const Verb verb = make_tokenize();
  return verb;
}
const Verb& render_verb() {
  static const Verb verb = make_render();
  return verb;
}
const Verb& info_verb() {
  static const Verb verb = make_info();
  return verb;
}
const Verb& data_verb() {
  static const Verb verb = make_data();
  return verb;
}
const Verb& data_convert_verb() {
  static const Verb verb = make_data_convert();
  return verb;
}
const Verb& bench_verb() {
  static const Verb verb = make_bench();
  return verb;
}

const Verb& data_preview_verb() {
  static const Verb verb = make_data_preview();
  return verb;
}
const Verb& data_stats_verb() {
  static const Verb verb = make_data_stats();
  return verb;
}

const std::vector<const Verb*>& all_verbs() {
  static const std::vector<const Verb*> verbs = {
      &train_verb(),  &plan_verb(),     &generate_verb(), &chat_verb(), &eval_verb(), &inspect_verb(),
      &render_verb(), &tokenize_verb(), &data_verb(),     &info_verb(), &bench_verb()};
  return verbs;
}

}  // namespace serval
