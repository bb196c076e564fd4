// Messages with descriptors between two processes.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace handover {

// SCM_MAX_FD of Linux: the kernel refuses more with EINVAL.
constexpr size_t kMaxFds = 253;

struct Received {
  // The caller has to close the descriptors.
  int fds[kMaxFds];
  size_t count = 0;
  bool truncated = false;
  bool fds_lost = false;
  // Guaranteed by the kernel; 0 if it is unknown.
  pid_t sender = 0;
};

struct Credentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

int Socketpair(int fds[2]);
// Of streams, which block.
int StreamPair(int fds[2]);
int Send(int fd, const void* data, size_t size, const int* fds, size_t count);
// Makes Receive() report the sender. -ENOSYS if the kernel cannot guarantee it.
int PassCredentials(int fd);
// Returns the size of the message, 0 at the end of file.
int Receive(int fd, void* data, size_t size, Received* received);
// `events` and the result are bits of libuv.
int Poll(int fd, int events, int timeout);
int PeerCredentials(int fd, Credentials* credentials);

}  // namespace handover
