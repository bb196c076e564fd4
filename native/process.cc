#include "process.h"

#ifdef __linux__
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <uv.h>

#include <csignal>
#include <deque>
#include <utility>
#endif

#include "descriptor.h"

namespace handover {

#ifdef __linux__

// glibc has the functions since 2.36, and older headers lack the numbers, which are the same on every
// architecture that Node runs on.
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace {

using AddChdir = int (*)(posix_spawn_file_actions_t*, const char*);

// glibc has the function since 2.29, and Node 20 runs on 2.28. By libuv, because dlsym(3) itself has moved in glibc
// 2.34: an addon that is built there and calls it does not load on an older one.
AddChdir FindAddChdir() {
  uv_lib_t program;
  void* found = nullptr;
  if (uv_dlopen(nullptr, &program) != 0 ||
      uv_dlsym(&program, "posix_spawn_file_actions_addchdir_np", &found) != 0) {
    found = nullptr;
  }
  uv_dlclose(&program);
  return reinterpret_cast<AddChdir>(found);
}

// Not under QEMU's user mode and WSL 1: there posix_spawn(3) cannot report the error of the child.
bool VforkSharesMemory() {
  volatile bool shared = false;
  pid_t pid = vfork();
  if (pid == 0) {
    shared = true;
    _exit(0);
  }
  while (pid > 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return shared;
}

struct FileActions {
  posix_spawn_file_actions_t value;

  FileActions() { posix_spawn_file_actions_init(&value); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  ~FileActions() { posix_spawn_file_actions_destroy(&value); }
};

struct Attributes {
  posix_spawnattr_t value;

  // As uv_spawn() does it. Signals from 32 on are left alone: libc uses some of them.
  explicit Attributes(bool leads_group) {
    posix_spawnattr_init(&value);
    short group = leads_group ? POSIX_SPAWN_SETPGROUP : 0;
    posix_spawnattr_setflags(&value, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | group);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&value, &signals);
    for (int signal = 1; signal < 32; signal++) {
      if (signal != SIGKILL && signal != SIGSTOP) sigaddset(&signals, signal);
    }
    posix_spawnattr_setsigdefault(&value, &signals);
  }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  ~Attributes() { posix_spawnattr_destroy(&value); }
};

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& one : strings) pointers.push_back(const_cast<char*>(one.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Adds the duplicates that make fds[n] the descriptor n. `moved` owns what exists until then. Returns 0 or -errno.
int AddDescriptors(posix_spawn_file_actions_t* actions, const std::vector<int>& fds, std::deque<Descriptor>* moved) {
  int count = static_cast<int>(fds.size());
  for (int target = 0; target < count; target++) {
    int source = fds[target];
    // Another one takes the place of this source, maybe before its turn.
    if (source != target && source < count) {
      source = moved->emplace_back(fcntl(source, F_DUPFD_CLOEXEC, count)).get();
      if (source < 0) return -errno;
    }
    int flags = fcntl(source, F_GETFL);
    int error;
    if (target <= STDERR_FILENO && flags < 0) {
      // This process has closed it. Node has it open to the same file, as programs expect to have the number.
      error = posix_spawn_file_actions_addopen(actions, target, "/dev/null", O_RDWR, 0);
    } else {
      // The flag belongs to the open file: uv_spawn() clears it in the child, which has the same effect.
      if (target <= STDERR_FILENO) fcntl(source, F_SETFL, flags & ~O_NONBLOCK);
      // A duplicate to the same number is no longer close-on-exec, as Node's own standard descriptors are.
      error = posix_spawn_file_actions_adddup2(actions, source, target);
    }
    if (error != 0) return -error;
  }
  return 0;
}

// Descriptors that a program which replaces this process keeps, unless this ends before.
class Kept {
 public:
  Kept() = default;
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  ~Kept() {
    int saved = errno;
    // Backwards, for one that was added twice.
    for (auto one = before_.rbegin(); one != before_.rend(); one++) fcntl(one->first, F_SETFD, one->second);
    errno = saved;
  }

  int Add(int fd) {
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0) return -errno;
    before_.push_back({fd, flags});
    return 0;
  }

 private:
  std::vector<std::pair<int, int>> before_;
};

// No signal is blocked on this thread, until this ends.
class Unblocked {
 public:
  Unblocked() {
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, &before_);
  }
  Unblocked(const Unblocked&) = delete;
  Unblocked& operator=(const Unblocked&) = delete;
  // It does not touch errno.
  ~Unblocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

pid_t Spawn(const Program& program, const std::vector<int>& fds) {
  static const AddChdir add_chdir = FindAddChdir();
  static const bool is_possible = add_chdir != nullptr && VforkSharesMemory();
  if (!is_possible) return -ENOSYS;
  FileActions actions;
  std::deque<Descriptor> moved;
  int result = AddDescriptors(&actions.value, fds, &moved);
  if (result < 0) return result;
  int error = add_chdir(&actions.value, program.directory.c_str());
  if (error != 0) return -error;
  Attributes attributes(program.leads_group);
  pid_t pid;
  error = posix_spawn(&pid, program.path.c_str(), &actions.value, &attributes.value,
                      Pointers(program.arguments).data(), Pointers(program.environment).data());
  return error != 0 ? -error : pid;
}

int Reap(pid_t pid, Ended* ended) {
  siginfo_t info{};
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG) < 0) return -errno;
  if (info.si_pid == 0) return -EAGAIN;
  ended->by_signal = info.si_code != CLD_EXITED;
  ended->status = info.si_status;
  return 0;
}

// Only looks, as a wait for any child would take the exit status of those that libuv has started.
pid_t PeekExited() {
  siginfo_t info{};
  if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0) return -errno;
  return info.si_pid == 0 ? -EAGAIN : info.si_pid;
}

int BecomeSubreaper() { return Result(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)); }

int Execve(const Program& program, const std::vector<int>& fds) {
  // Worker threads would see their own process end in the middle of a statement.
  if (syscall(SYS_gettid) != getpid()) return -EPERM;
  Kept kept;
  for (int fd : fds) {
    int result = kept.Add(fd);
    if (result < 0) return result;
  }
  std::vector<char*> arguments = Pointers(program.arguments);
  std::vector<char*> environment = Pointers(program.environment);
  Unblocked unblocked;
  return Result(execve(program.path.c_str(), arguments.data(), environment.data()));
}

// The kernel makes it close-on-exec.
int PidfdOpen(pid_t pid) { return Result(syscall(SYS_pidfd_open, pid, 0)); }

int PidfdKill(int pidfd, int signal) {
  return Result(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

#else

// uv_spawn() of macOS calls posix_spawn(3) itself.
pid_t Spawn(const Program&, const std::vector<int>&) { return -ENOSYS; }
int Reap(pid_t, Ended*) { return -ENOSYS; }
pid_t PeekExited() { return -ENOSYS; }
int BecomeSubreaper() { return -ENOSYS; }
int Execve(const Program&, const std::vector<int>&) { return -ENOSYS; }
int PidfdOpen(pid_t) { return -ENOSYS; }
int PidfdKill(int, int) { return -ENOSYS; }

#endif

}  // namespace handover
