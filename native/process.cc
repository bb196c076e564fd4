#include "process.h"

#ifdef __linux__
#include <sys/syscall.h>
#endif

#include "descriptor.h"

namespace handover {

#ifdef __linux__

// glibc has the functions since 2.36, and older headers lack the numbers, which are the same on every
// architecture that Node runs on.
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

// The kernel makes it close-on-exec.
int PidfdOpen(pid_t pid) { return Result(syscall(SYS_pidfd_open, pid, 0)); }

int PidfdKill(int pidfd, int signal) {
  return Result(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

#else

int PidfdOpen(pid_t) { return -ENOSYS; }
int PidfdKill(int, int) { return -ENOSYS; }

#endif

}  // namespace handover
