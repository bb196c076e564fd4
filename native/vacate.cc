#include "vacate.h"

#include <cerrno>

#include "descriptor.h"

#ifdef __linux__
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>
#endif

namespace handover {

#ifdef __linux__

int Vacate(uv_loop_t* loop, const std::vector<int>& fds) {
  // Read and written all the same: a stray write must not be an error.
  Descriptor nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (nothing.get() < 0) return -errno;
  int set = uv_backend_fd(loop);
  for (int fd : fds) {
    // The connection lives on in another process: the set would report it for ever, under a descriptor that it has not.
    epoll_event unused{};
    epoll_ctl(set, EPOLL_CTL_DEL, fd, &unused);
    // The number stays the handle's, which closes it later.
    if (dup3(nothing.get(), fd, O_CLOEXEC) < 0) return -errno;
  }
  return 0;
}

#else

int Vacate(uv_loop_t*, const std::vector<int>&) { return -ENOSYS; }

#endif

}  // namespace handover
