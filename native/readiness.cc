#include "readiness.h"

#include <cerrno>

#include "descriptor.h"

#ifdef __linux__
#include <sys/epoll.h>
#endif

namespace handover {

#ifdef __linux__

int ReadinessCreate() { return Result(epoll_create1(EPOLL_CLOEXEC)); }

int ReadinessAdd(int set, int fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.fd = fd;
  return Result(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
}

int ReadinessRemove(int set, int fd) { return Result(epoll_ctl(set, EPOLL_CTL_DEL, fd, nullptr)); }

int ReadinessTake(int set, int* fds) {
  epoll_event events[kMaxReady];
  int count = epoll_wait(set, events, kMaxReady, 0);
  for (int i = 0; i < count; i++) fds[i] = events[i].data.fd;
  return Result(count);
}

#else

int ReadinessCreate() { return -ENOSYS; }
int ReadinessAdd(int, int) { return -ENOSYS; }
int ReadinessRemove(int, int) { return -ENOSYS; }
int ReadinessTake(int, int*) { return -ENOSYS; }

#endif

}  // namespace handover
