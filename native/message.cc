#include "message.h"

#include <poll.h>
#include <sys/socket.h>
#include <uv.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "descriptor.h"
#include "socket.h"

namespace handover {

namespace {

#ifdef __linux__
constexpr size_t kCredentialsSpace = CMSG_SPACE(sizeof(ucred));
constexpr int kSendFlags = MSG_NOSIGNAL | MSG_DONTWAIT;
constexpr int kReceiveFlags = MSG_CMSG_CLOEXEC | MSG_DONTWAIT;
constexpr short kHangUp = POLLRDHUP;
#else
constexpr size_t kCredentialsSpace = 0;
constexpr int kSendFlags = MSG_DONTWAIT;
constexpr int kReceiveFlags = MSG_DONTWAIT;
constexpr short kHangUp = 0;  // poll(2) always reports POLLHUP.
#endif

// Aligned as the kernel and the CMSG macros require. The kernel writes the credentials first: without room for
// both, they would cost descriptors.
union Control {
  cmsghdr header;
  char bytes[kCredentialsSpace + CMSG_SPACE(kMaxFds * sizeof(int))];
};

void Collect(msghdr* message, Received* received) {
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET) continue;
#ifdef __linux__
    if (part->cmsg_type == SCM_CREDENTIALS) {
      ucred sender;
      memcpy(&sender, CMSG_DATA(part), sizeof(sender));
      received->sender = sender.pid;
    }
#endif
    if (part->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
#ifndef __linux__
      SetCloseOnExec(fd);
#endif
      received->fds[received->count++] = fd;
    }
  }
}

long long Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

// Close-on-exec.
int Pair(int type, int fds[2]) {
#ifdef SOCK_CLOEXEC
  type |= SOCK_CLOEXEC;
#endif
  if (socketpair(AF_UNIX, type, 0, fds) < 0) return -errno;
  Descriptor ends[] = {Descriptor(fds[0]), Descriptor(fds[1])};
  for (Descriptor& end : ends) {
    int result = 0;
#ifndef SOCK_CLOEXEC
    result = SetCloseOnExec(end.get());
#endif
    // With a closed stdin this end would become the stdin of every process that is started from here on.
    if (result >= 0 && end.get() <= STDERR_FILENO) {
      result = Duplicate(end.get());
      if (result >= 0) end.Reset(result);
    }
    if (result < 0) return result;
  }
  for (int i = 0; i < 2; i++) fds[i] = ends[i].Release();
  return 0;
}

}  // namespace

int Socketpair(int fds[2]) {
#ifdef __linux__
  return Pair(SOCK_SEQPACKET | SOCK_NONBLOCK, fds);
#else
  int result = Pair(SOCK_DGRAM, fds);
  if (result < 0) return result;
  Descriptor ends[] = {Descriptor(fds[0]), Descriptor(fds[1])};
  for (Descriptor& end : ends) {
    result = SetNonblocking(end.get());
#ifdef SO_NOSIGPIPE
    int on = 1;
    if (result >= 0) result = Result(setsockopt(end.get(), SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on)));
#endif
    if (result < 0) return result;
  }
  for (Descriptor& end : ends) end.Release();
  return 0;
#endif
}

int StreamPair(int fds[2]) { return Pair(SOCK_STREAM, fds); }

int Send(int fd, const void* data, size_t size, const int* fds, size_t count) {
  Control control{};
  iovec part{const_cast<void*>(data), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, kSendFlags);
  } while (sent < 0 && errno == EINTR);
  return Result(sent);
}

int PassCredentials(int fd) {
#ifdef __linux__
  int on = 1;
  return Result(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
#else
  (void)fd;
  return -ENOSYS;
#endif
}

int Receive(int fd, void* data, size_t size, Received* received) {
  Control control{};
  iovec part{data, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  ssize_t size_received;
  do {
    size_received = recvmsg(fd, &message, kReceiveFlags);
  } while (size_received < 0 && errno == EINTR);
  if (size_received < 0) return -errno;
  Collect(&message, received);
  received->truncated = (message.msg_flags & MSG_TRUNC) != 0;
  received->fds_lost = (message.msg_flags & MSG_CTRUNC) != 0;
  return Result(size_received);
}

int Poll(int fd, int events, int timeout) {
  pollfd entry{fd, 0, 0};
  if (events & UV_READABLE) entry.events |= POLLIN;
  if (events & UV_WRITABLE) entry.events |= POLLOUT;
  if (events & UV_DISCONNECT) entry.events |= kHangUp;
  long long end = Now() + timeout;
  int ready;
  while ((ready = poll(&entry, 1, timeout)) < 0 && errno == EINTR) {
    timeout = static_cast<int>(std::max(end - Now(), 0LL));
  }
  if (ready <= 0) return Result(ready);
  if (entry.revents & POLLNVAL) return -EBADF;
  if (entry.revents & (POLLHUP | POLLERR)) return events;
  int came = 0;
  if (entry.revents & POLLIN) came |= UV_READABLE;
  if (entry.revents & POLLOUT) came |= UV_WRITABLE;
  if (entry.revents & kHangUp) came |= UV_DISCONNECT;
  return came;
}

int PeerCredentials(int fd, Credentials* credentials) {
#ifdef __linux__
  ucred peer;
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return -errno;
  *credentials = {peer.pid, peer.uid, peer.gid};
  return 0;
#else
  return Result(getpeereid(fd, &credentials->uid, &credentials->gid));
#endif
}

}  // namespace handover
