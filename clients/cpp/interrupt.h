// Ctrl-C while the chat client waits for its server.
#pragma once

#include <functional>
#include <thread>

namespace expertd {

// Makes Ctrl-C (SIGINT) end the main thread's wait for a line, instead of ending the program. Called once, by the main
// thread.
void CatchInterrupts();

// While it lives, Ctrl-C calls `on_interrupt` on a thread of its own, so that a call can be cancelled which blocks the
// main thread; a Ctrl-C that came before counts for nothing. After CatchInterrupts; one at a time.
class InterruptWatch {
 public:
  explicit InterruptWatch(std::function<void()> on_interrupt);
  ~InterruptWatch();  // no call of `on_interrupt` begins after it

  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

 private:
  std::thread thread_;
};

}  // namespace expertd
