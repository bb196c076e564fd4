// A set of descriptors that is readable when one of them is: epoll of Linux; -ENOSYS elsewhere.
#pragma once

namespace handover {

constexpr int kMaxReady = 256;

int ReadinessCreate();
int ReadinessAdd(int set, int fd);
int ReadinessRemove(int set, int fd);
// Writes the descriptors that are readable now to `fds`, which has room for kMaxReady. Returns their number.
int ReadinessTake(int set, int* fds);

}  // namespace handover
