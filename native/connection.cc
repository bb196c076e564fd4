#include "connection.h"

#include <sys/socket.h>

#ifdef __linux__
// Not netinet/tcp.h: glibc's `tcp_info` ends before the counters.
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#endif

#include <cstddef>

#include "descriptor.h"

namespace handover {

#ifdef __linux__

namespace {

constexpr socklen_t kNeeded = offsetof(tcp_info, tcpi_bytes_received) + sizeof(tcp_info::tcpi_bytes_received);
// tcp_states.h of the kernel; only netinet/tcp.h has them for programs.
constexpr int kCloseWait = 8, kLastAck = 9, kClosing = 11;
// A segment that comes in between is rare, and several in a row are a connection in use.
constexpr int kAttempts = 8;

int TcpInfo(int fd, tcp_info* info) {
  socklen_t size = sizeof(*info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) < 0) return -errno;
  return size < kNeeded ? -ENOSYS : 0;
}

// The end of the peer's data counts as one received byte, which can never be unread.
bool PeerEnded(const tcp_info& info) {
  return info.tcpi_state == kCloseWait || info.tcpi_state == kLastAck || info.tcpi_state == kClosing;
}

}  // namespace

int CountConnection(int fd, ConnectionCounters* counters) {
  int protocol;
  socklen_t size = sizeof(protocol);
  if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0) return -errno;
  if (protocol != IPPROTO_TCP) return -ENOTSUP;
  tcp_info before{}, after{};
  int result = TcpInfo(fd, &after);
  for (int attempt = 0; result >= 0 && attempt < kAttempts; attempt++) {
    before = after;
    if (ioctl(fd, SIOCOUTQ, &counters->unsent) < 0) return -errno;
    if (ioctl(fd, SIOCINQ, &counters->unread) < 0) return -errno;
    result = TcpInfo(fd, &after);
    bool unchanged = before.tcpi_bytes_acked == after.tcpi_bytes_acked &&
                     before.tcpi_bytes_received == after.tcpi_bytes_received &&
                     before.tcpi_state == after.tcpi_state;
    if (result < 0 || !unchanged) continue;
    counters->acked = after.tcpi_bytes_acked;
    counters->received = after.tcpi_bytes_received - (PeerEnded(after) ? 1 : 0);
    return 0;
  }
  return result < 0 ? result : -EAGAIN;
}

#else

int CountConnection(int, ConnectionCounters*) { return -ENOSYS; }

#endif

}  // namespace handover
