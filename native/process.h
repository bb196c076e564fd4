// A process as a descriptor, which no other process can take the place of. -ENOSYS where there are none.
#pragma once

#include <sys/types.h>

namespace handover {

// SIGRTMAX of the kernel.
constexpr int kMaxSignal = 64;

int PidfdOpen(pid_t pid);
int PidfdKill(int pidfd, int signal);

}  // namespace handover
