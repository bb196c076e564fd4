// A set of descriptors that is itself readable when one of them is. Linux's epoll; -ENOSYS elsewhere.
#pragma once

namespace handover {

constexpr int kMaxReady = 256;

int ReadinessCreate();
int ReadinessAdd(int set, int fd);
int ReadinessRemove(int set, int fd);
// Writes to `fds`, of kMaxReady, those that are readable now. How many.
int ReadinessTake(int set, int* fds);

}  // namespace handover
