#include "socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include "descriptor.h"

namespace handover {

namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(&storage);
  }
};

// Close-on-exec and nonblocking, as libuv requires of a descriptor that it opens.
int Socket(int family, int type) {
#ifdef SOCK_CLOEXEC
  return Result(socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
#else
  Descriptor fd(socket(family, type, 0));
  if (fd.get() < 0) return -errno;
  int result = SetCloseOnExec(fd.get());
  if (result >= 0) result = SetNonblocking(fd.get());
  return result < 0 ? result : fd.Release();
#endif
}

int SetOption(int fd, int level, int name, int value) {
  return Result(setsockopt(fd, level, name, &value, sizeof(value)));
}

int GetOption(int fd, int level, int name) {
  int value = 0;
  socklen_t size = sizeof(value);
  return getsockopt(fd, level, name, &value, &size) < 0 ? -errno : value;
}

int ParseInet(const std::string& text, int port, Address* address) {
  // A NUL would hide the rest of the text from the parsers.
  if (text.find('\0') != std::string::npos) return -EINVAL;
  auto* v4 = address->as<sockaddr_in>();
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    address->size = sizeof(*v4);
    return 0;
  }
  // getaddrinfo(3) knows scopes, inet_pton(3) does not; with these hints it only parses.
  addrinfo hints{};
  hints.ai_family = AF_INET6;
  hints.ai_flags = AI_NUMERICHOST;
  addrinfo* found = nullptr;
  int result = getaddrinfo(text.c_str(), nullptr, &hints, &found);
  if (result == EAI_SYSTEM) return -errno;
  if (result == EAI_MEMORY) return -ENOMEM;
  if (result != 0) return -EINVAL;
  address->size = found->ai_addrlen;
  memcpy(address->get(), found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  address->as<sockaddr_in6>()->sin6_port = htons(static_cast<uint16_t>(port));
  return 0;
}

int ParseUnix(const std::string& path, Address* address) {
  auto* unix_address = address->as<sockaddr_un>();
  bool abstract = !path.empty() && path[0] == '\0';
  // Linux would choose an abstract name for an empty path, and cut a path at a NUL inside it.
  if (path.empty() || (!abstract && path.find('\0') != std::string::npos)) return -EINVAL;
  if (path.size() > sizeof(unix_address->sun_path) - 1) return -ENAMETOOLONG;
  unix_address->sun_family = AF_UNIX;
  memcpy(unix_address->sun_path, path.data(), path.size());
  // Every byte of an abstract name counts, a trailing NUL too.
  address->size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  return 0;
}

// Linux gives the file the mode of the socket's inode without the umask's bits. umask(2) changes the whole process,
// so it cannot be lifted temporarily. Adding the bits afterwards is safe, because it only widens the mode.
int AddMode(const std::string& path, mode_t mode) {
  int result = Result(fchmodat(AT_FDCWD, path.c_str(), mode, AT_SYMLINK_NOFOLLOW));
  // For glibc before 2.32, and without /proc.
  return result == -EOPNOTSUPP ? Result(chmod(path.c_str(), mode)) : result;
}

void DescribeUnix(const sockaddr_un* name, socklen_t size, Description* description) {
  size_t start = offsetof(sockaddr_un, sun_path);
  size_t length = size > start ? size - start : 0;
  if (length > 0 && name->sun_path[0] != '\0') length = strnlen(name->sun_path, length);
  description->address.assign(name->sun_path, length);
}

}  // namespace

int BindInet(int type, const std::string& address, int port, bool ipv6_only, bool reuse_port) {
  Address name;
  int result = ParseInet(address, port, &name);
  if (result < 0) return result;
  Descriptor fd(Socket(name.storage.ss_family, type));
  if (fd.get() < 0) return fd.get();
  // As libuv does: connections in TIME_WAIT must not keep a listener from its port. For UDP the option would let two
  // sockets share a port.
  if (type == SOCK_STREAM) result = SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (result >= 0 && name.storage.ss_family == AF_INET6) {
    result = SetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, ipv6_only ? 1 : 0);
  }
  if (result >= 0 && reuse_port) result = SetOption(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (result < 0) return result;
  if (bind(fd.get(), name.get(), name.size) < 0) return -errno;
  return fd.Release();
}

int BindUnix(const std::string& path, int mode) {
  Address name;
  int result = ParseUnix(path, &name);
  if (result < 0) return result;
  Descriptor fd(Socket(AF_UNIX, SOCK_STREAM));
  if (fd.get() < 0) return fd.get();
#ifdef __linux__
  // Before bind(2), so that other users can at no time connect to a private socket. macOS refuses it with EINVAL: there
  // AddMode() sets the whole mode.
  if (mode >= 0 && fchmod(fd.get(), static_cast<mode_t>(mode)) < 0) return -errno;
#endif
  if (bind(fd.get(), name.get(), name.size) < 0) return -errno;
  if (mode >= 0 && path[0] != '\0') {
    result = AddMode(path, static_cast<mode_t>(mode));
    if (result < 0) {
      unlink(path.c_str());
      return result;
    }
  }
  return fd.Release();
}

int ConnectUnix(int type, const std::string& path) {
  Address name;
  int result = ParseUnix(path, &name);
  if (result < 0) return result;
  Descriptor fd(Socket(AF_UNIX, type));
  if (fd.get() < 0) return fd.get();
  if (connect(fd.get(), name.get(), name.size) < 0) return -errno;
  return fd.Release();
}

int Listen(int fd, int backlog) { return Result(listen(fd, backlog)); }

// Never below 3: with a closed stdin the duplicate would become the stdin of the next process.
int Duplicate(int fd) { return Result(fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

int SendBuffer(int fd) { return GetOption(fd, SOL_SOCKET, SO_SNDBUF); }

int SetSendBuffer(int fd, int bytes) { return SetOption(fd, SOL_SOCKET, SO_SNDBUF, bytes); }

int Shutdown(int fd) { return Result(shutdown(fd, SHUT_RDWR)); }

int Close(int fd) {
  // After EINTR the descriptor is closed: a second attempt could close a new descriptor of another thread.
  return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

int Describe(int fd, Description* description) {
  Address name;
  if (getsockname(fd, name.get(), &name.size) < 0) return -errno;
  int type = GetOption(fd, SOL_SOCKET, SO_TYPE);
  if (type < 0) return type;
  if (type == SOCK_STREAM) description->type = "stream";
  if (type == SOCK_DGRAM) description->type = "dgram";
  if (type == SOCK_SEQPACKET) description->type = "seqpacket";
  // A socket that cannot listen may not support the option.
  description->listening = GetOption(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0;
  description->reuse_port = GetOption(fd, SOL_SOCKET, SO_REUSEPORT) > 0;
  int family = name.storage.ss_family;
  if (family == AF_UNIX) {
    description->family = "unix";
    DescribeUnix(name.as<sockaddr_un>(), name.size, description);
  }
  if (family != AF_INET && family != AF_INET6) return 0;
  description->family = family == AF_INET ? "inet4" : "inet6";
  // Large enough for the scope, which getnameinfo(3) adds.
  char text[NI_MAXHOST];
  if (getnameinfo(name.get(), name.size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) return -EINVAL;
  description->address = text;
  description->port = ntohs(name.as<sockaddr_in>()->sin_port);  // At the same offset in sockaddr_in6.
  if (family == AF_INET6) description->ipv6_only = GetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY) > 0;
  return 0;
}

namespace {

// A socket that was only bound here may listen all the same: node:cluster shares it with its workers.
bool Listens(uv_handle_t* handle, int fd) {
  auto* stream = reinterpret_cast<uv_stream_t*>(handle);
  if (stream->connection_cb != nullptr) return true;
  if (uv_is_readable(stream) || uv_is_writable(stream)) return false;
  return GetOption(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0;
}

void AddListener(uv_handle_t* handle, void* found) {
  if (handle->type != UV_TCP && handle->type != UV_NAMED_PIPE) return;
  uv_os_fd_t fd;
  if (uv_fileno(handle, &fd) < 0 || !Listens(handle, fd)) return;
  static_cast<std::vector<int>*>(found)->push_back(fd);
}

}  // namespace

std::vector<int> FindListeners(uv_loop_t* loop) {
  std::vector<int> found;
  uv_walk(loop, AddListener, &found);
  return found;
}

}  // namespace handover
