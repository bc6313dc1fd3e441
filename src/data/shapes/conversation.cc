// Whole conversations: OpenAI's messages and ShareGPT's conversations.
#include "base/error.h"
#include "data/shapes/columns.h"
#include "data/shapes/messages.h"
#include "data/shapes/shape_family.h"

namespace serval {
namespace {

std::string column_of_messages(const Json& row) {
  const std::string found = first_column(row, {"messages", "conversations", "conversation", "dialogue"});
  return found.empty() ? "messages" : found;
}

TrainingRow read_conversation(const Json& row, const DatasetShape& shape, const std::string& where) {
  ConversationRow conversation;
  conversation.messages = messages_of_column(row, column_of_messages(row), shape, where);
  add_system_message(row, conversation.messages, where);
  TrainingRow result;
  result.context = context_of_row(row, where);
  result.body = std::move(conversation);
  return result;
}

}  // namespace

const ShapeFamily kMessagesShape = {
    .name = "messages",
    .aliases = {"sharegpt", "openai", "chatml", "chat", "chat_template", "conversations"},
    .columns = "messages (or conversations)",
    .kind = RowKind::conversation,
    .rank = 3,
    .matches =
        [](const Json& row) {
          if (row.contains("messages")) return true;
          const Json* found = row.find(column_of_messages(row));
          // A column of that name may also be a text or a number.
          return found != nullptr && (is_messages(*found) || found->is_array() || found->is_string());
        },
    .is_chat = [](const Json&, bool) { return true; },
    .meaning =
        [](const Json& row, const DatasetShape&) {
          return fmt::format("conversations (column {})", column_of_messages(row));
        },
    .used =
        [](const Json& row, const DatasetShape&) {
          std::vector<std::string> used = {column_of_messages(row), "system", "system_prompt"};
          used.insert(used.end(), std::begin(kContextColumns), std::end(kContextColumns));
          return used;
        },
    .read = read_conversation};

}  // namespace serval
