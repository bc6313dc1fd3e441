// Messages in all their spellings, brought into the one of data/row.h:
//   role, from; content, value; human, gpt, bot, observation, function_call, ...; parts of one text; OpenAI's
//   function_call and functions; arguments written as JSON inside a string; null keys, which tables of files
//   fill in; weight, train and loss_weight; train_detail and parts that are trained or not.
#pragma once
#include <string>
#include <string_view>

#include "data/row_shape.h"

namespace serval {

// The messages of a column: a list of them, a single one, or a list as JSON inside a string.
Json::Array messages_of_column(const Json& row, std::string_view column, const DatasetShape& shape,
                               const std::string& where);
Json::Array messages_of_value(const Json& value, const std::string& name, const DatasetShape& shape,
                              const std::string& where);

// "user" for "human", "assistant" for "gpt", ...; other names as they are.
std::string standard_role(const std::string& role);

// Does the value look like messages (and not like text)?
bool is_messages(const Json& value);

// {"tools", "documents", what chat_template_kwargs holds} of the row's columns.
Json context_of_row(const Json& row, const std::string& where);
inline constexpr const char* kContextColumns[] = {"tools", "functions", "parallel_tool_calls", "documents",
                                                  "chat_template_kwargs"};

Json make_message(std::string_view role, std::string content);
// Puts the column "system" (or "system_prompt") before the messages, unless they begin with a system message.
void add_system_message(const Json& row, Json::Array& messages, const std::string& where);
// Takes out what says how messages are trained.
void remove_weights(Json::Array& messages);

// A text column as the user's or assistant's message, or messages as they are.
Json::Array messages_or_text(const Json& row, std::string_view column, std::string_view role_of_text,
                             const DatasetShape& shape, const std::string& where);

}  // namespace serval
