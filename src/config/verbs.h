// The verbs of the program as their command lines see them: keys, positionals and examples.
//
//   const Arguments arguments = parse_arguments(generate_verb(), words);
#pragma once
#include "config/arguments.h"

namespace serval {

const Verb& train_verb();  // [CONFIG.yaml]; settings go to resolve_train()
const Verb& plan_verb();   // the same keys, and program, json, profile
const Verb& generate_verb();
const Verb& chat_verb();
const Verb& eval_verb();
const Verb& inspect_verb();  // FILE|DIR
const Verb& tokenize_verb();
const Verb& render_verb();
const Verb& info_verb();
const Verb& data_verb();          // only its name and summary: the sub-verbs have the keys
const Verb& data_convert_verb();  // FILE...
const Verb& data_preview_verb();  // [CONFIG.yaml]
const Verb& data_stats_verb();    // [CONFIG.yaml]
const Verb& bench_verb();         // [train|generate|gemm|ops|copy|link]
const std::vector<const Verb*>& all_verbs();

}  // namespace serval
