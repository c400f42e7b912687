#include "clients/cpp/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

namespace expertd {
namespace {

// A pipe, because writing to one is among the few things that a signal handler may do.
constexpr char kInterrupt = 'i';
constexpr char kEnd = 'e';
int read_end = -1;
std::atomic<int> write_end{-1};

void OnSignal(int) {
  const int saved_errno = errno;
  [[maybe_unused]] const ssize_t written = write(write_end.load(std::memory_order_relaxed), &kInterrupt, 1);
  errno = saved_errno;
}

// The next byte of the pipe. A signal that this thread receives itself ends its read early.
char NextByte() {
  char byte = kEnd;
  while (read(read_end, &byte, 1) < 0 && errno == EINTR) continue;
  return byte;
}

// Takes what is in the pipe without waiting.
void Drain() {
  pollfd pipe = {.fd = read_end, .events = POLLIN, .revents = 0};
  while (poll(&pipe, 1, /*timeout=*/0) > 0) NextByte();
}

}  // namespace

void CatchInterrupts() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return;  // without descriptors Ctrl-C ends the program, as it does everywhere
  read_end = ends[0];
  write_end = ends[1];
  fcntl(ends[1], F_SETFL, O_NONBLOCK);  // a handler must not wait, however many signals nobody has read
  struct sigaction action = {};         // no SA_RESTART: the wait for a line ends
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
}

InterruptWatch::InterruptWatch(std::function<void()> on_interrupt) {
  if (read_end < 0) return;
  Drain();
  thread_ = std::thread([on_interrupt = std::move(on_interrupt)] {
    pthread_setname_np(pthread_self(), "interrupt");
    while (NextByte() == kInterrupt) on_interrupt();
  });
}

InterruptWatch::~InterruptWatch() {
  if (!thread_.joinable()) return;
  [[maybe_unused]] const ssize_t written = write(write_end, &kEnd, 1);
  thread_.join();
}

}  // namespace expertd
