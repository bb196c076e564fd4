// Processes: started without a copy of this one's memory, held by a descriptor, reaped, and replaced by another program.
// -ENOSYS where there is no such call.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace handover {

// SIGRTMAX of the kernel.
constexpr int kMaxSignal = 64;

struct Program {
  std::string path;
  std::vector<std::string> arguments;
  // `NAME=value`.
  std::vector<std::string> environment;
  // In which a relative `path` begins.
  std::string directory;
  // Whether it leads a process group of its own.
  bool leads_group = false;
};

// How a process ended: by a signal, or with a code.
struct Ended {
  bool by_signal;
  int status;
};

// The descriptor n of the process is fds[n]; it gets none but these that is close-on-exec here.
pid_t Spawn(const Program& program, const std::vector<int>& fds);
// Of a child, which is gone then; -EAGAIN while it runs, -ECHILD if it is no child.
int Reap(pid_t pid, Ended* ended);
// The pid of a child that has exited and was not reaped; -EAGAIN if there is none, -ECHILD without children.
pid_t PeekExited();
// The processes that its descendants leave behind become its children.
int BecomeSubreaper();
// Replaces this process, which keeps its pid, its children and these descriptors. Returns only -errno, and has changed
// nothing then; -EPERM on another thread than the main one.
int Execve(const Program& program, const std::vector<int>& fds);
int PidfdOpen(pid_t pid);
int PidfdKill(int pidfd, int signal);

}  // namespace handover
