// Owns descriptors and converts errors for every other file. Results are >= 0, or -errno.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace handover {

inline int Result(long returned) { return returned < 0 ? -errno : static_cast<int>(returned); }

// A descriptor that is closed unless its ownership is released.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { Reset(-1); }

  int get() const { return fd_; }

  // Closes it, and owns `fd` instead.
  void Reset(int fd) {
    // The caller reads errno after this.
    int saved = errno;
    if (fd_ >= 0) close(fd_);
    errno = saved;
    fd_ = fd;
  }

  int Release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

// For systems without SOCK_CLOEXEC, SOCK_NONBLOCK and MSG_CMSG_CLOEXEC. Another thread may fork in between, which
// cannot be prevented there.
inline int SetCloseOnExec(int fd) { return Result(fcntl(fd, F_SETFD, FD_CLOEXEC)); }

inline int SetNonblocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags < 0 ? -errno : Result(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

}  // namespace handover
