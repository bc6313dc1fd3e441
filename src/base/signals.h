// Ctrl-C and SIGTERM ask a run to stop: it saves and exits. A second one ends the process at once.
//
//   catch_stop_signals();
//   while (!stop_requested()) step();
#pragma once

namespace serval {

void catch_stop_signals();
bool stop_requested();
int stop_signal();  // the signal that asked, 0 where none did

}  // namespace serval
