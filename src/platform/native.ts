import { HandoverError, reasonOf } from "../errors.js";
import { loadAddon } from "./addon.js";
import { builtins } from "./builtins.js";

/**
 * All functions of the addon. Each of them is one system call without any policy, {@link Native.RecordCipher} excepted: it
 * returns the result of the call, or `-errno`. Every descriptor that it returns is close-on-exec.
 */
export interface Native {
  /** A pair of connected Unix sockets that keep message boundaries: SOCK_SEQPACKET, on macOS SOCK_DGRAM. */
  socketpair(): [number, number] | number;
  /** A pair of connected Unix stream sockets, which block until someone says otherwise. */
  streamPair(): [number, number] | number;
  /** sendmsg(2) without blocking and without SIGPIPE; at most `MAX_FDS` descriptors. Bytes sent. */
  send(fd: number, data: Uint8Array, fds: readonly number[]): number;
  /** recvmsg(2) into `buffer` without blocking. An end of file is a `size` of 0. */
  receive(fd: number, buffer: Uint8Array): Received | number;
  /** Makes {@link receive} on this socket report the sender of later messages (SO_PASSCRED); -ENOSYS on macOS. */
  passCredentials(fd: number): number;
  /** poll(2) on one descriptor: waits, blocking the thread, at most `timeout` ms. The events that came, 0 for none. */
  poll(fd: number, events: number, timeout: number): number;
  /**
   * socket(2) + bind(2) for TCP or UDP; `address` is numeric. With `reusePort` the socket shares its address with others of
   * this user that have SO_REUSEPORT too: they are one group. The descriptor.
   */
  bindInet(type: SocketType, address: string, port: number, ipv6Only: boolean, reusePort?: boolean): number;
  /**
   * Chooses the members of the group of `fd` that get what arrives from now on (SO_ATTACH_REUSEPORT_CBPF); the descriptor
   * is that of any member. `indexes` are 1 to {@link MAX_STEERED} positions from 0 to 255 in the group. A member's position
   * is the number of members that listened before it (for UDP: that were bound before it); when one closes, the last takes
   * its position. Where a position has no member, and for the group as it was before, the kernel's own hash chooses.
   *
   * `by` "random" chooses among them anew for each connection and each datagram; "source" chooses the same for each of a
   * client's addresses as long as `indexes` stay the same.
   *
   * -EINVAL for a socket without SO_REUSEPORT; -ENOPROTOOPT before Linux 4.5; -ENOSYS on macOS.
   */
  steer(fd: number, indexes: readonly number[], by: Steering): number;
  /**
   * Lets the kernel's own hash choose again (SO_DETACH_REUSEPORT_BPF). -ENOENT if the group was not steered, -EINVAL for a
   * socket without SO_REUSEPORT; -ENOPROTOOPT before Linux 5.3; -ENOSYS on macOS.
   */
  unsteer(fd: number): number;
  /**
   * socket(2) + bind(2) for a Unix stream socket; a path that starts with NUL is abstract. With `mode` -1 the umask
   * applies.
   */
  bindUnix(path: string, mode: number): number;
  /**
   * socket(2) + connect(2) for a Unix socket; a path that starts with NUL is abstract. The descriptor; -EAGAIN if the queue of a
   * listener is full.
   */
  connectUnix(type: SocketType, path: string): number;
  /** listen(2). */
  listen(fd: number, backlog: number): number;
  /** fcntl(F_DUPFD_CLOEXEC), never below 3. The new descriptor. */
  duplicate(fd: number): number;
  /** fcntl(F_SETFD, FD_CLOEXEC): for a descriptor that another program has left open for this one. */
  setCloseOnExec(fd: number): number;
  /** The bytes that a socket holds until they are received (SO_SNDBUF), with the kernel's own for each message. */
  sendBuffer(fd: number): number;
  /** Sets it to the double of `bytes`, on macOS to `bytes`; the kernel keeps it within its limits (`net.core.wmem_max`). */
  setSendBuffer(fd: number, bytes: number): number;
  /** isatty(3): whether a descriptor is of a terminal. */
  isTerminal(fd: number): boolean;
  /** shutdown(2) in both directions: every process that holds either end of the connection sees its end. */
  shutdown(fd: number): number;
  /** close(2). */
  close(fd: number): number;
  /** getsockname(2) and the options that describe a socket; -ENOTSOCK for another descriptor. */
  describe(fd: number): SocketDescription | number;
  /** The descriptors of this thread's event loop that listen, and those that node:cluster shares with its workers. */
  findListeners(): number[] | number;
  /**
   * Takes connections, whose sockets do not read or write, from this thread's event loop: each descriptor refers to `/dev/null` from
   * then on, and stays its socket's to close. 0; -EMFILE and -ENFILE, which change nothing; -ENOSYS on macOS.
   */
  vacate(fds: readonly number[]): number;
  /**
   * Counts the bytes of a TCP connection at one instant, into the four numbers of `counted`: an object for each of thousands
   * of connections would take longer than the system calls. 0; -EAGAIN if they changed during each attempt, -ENOTSUP for
   * other sockets, -EINVAL for listeners, -ENOSYS before Linux 4.1 and on macOS.
   *
   * The bytes are those since the connection was made, whichever processes have used it. Acknowledged and unsent ones together
   * grow with every write and with the end of writing, and with nothing else; received ones without unread ones with every
   * read. So two equal sums mean that nothing was written or read in between, even if the peer has sent or acknowledged.
   *
   * @param counted 0: written, and acknowledged by the peer; 1: sent by the peer, without its end; 2: written, and not yet
   *   acknowledged by the peer (SIOCOUTQ); 3: received, and not yet read (SIOCINQ)
   */
  connectionCounters(fd: number, counted: Float64Array): number;
  /** The credentials of the process at the other end: SO_PEERCRED, on macOS getpeereid(3) with a pid of 0. */
  peerCredentials(fd: number): Credentials | number;
  /** memfd_create(2) with sealing allowed; -ENOSYS on macOS. People see `name` in /proc. */
  memfdCreate(name: string): number;
  /** Seals a memory file permanently: no writing, no growing, no shrinking. */
  memfdSeal(fd: number): number;
  /** 1 if the file is sealed against every change, else 0. */
  memfdSealed(fd: number): number;
  /**
   * Starts the program in the file `path` by posix_spawn(3): this process's memory is not copied, however much it is, and
   * this thread waits only until the program is executed. The descriptor n of the process is `fds[n]`. Its signals are as
   * those of `child_process.spawn`: none is blocked, and each has its default action. The pid; -ENOSYS before glibc 2.29,
   * where vfork(2) is emulated, and on macOS, where `child_process.spawn` itself calls posix_spawn(3).
   *
   * @param environment `NAME=value`
   * @param directory in which a relative `path` begins
   * @param leadsGroup whether the process leads a process group of its own; default false
   */
  spawn(
    path: string,
    words: readonly string[],
    environment: readonly string[],
    directory: string,
    fds: readonly number[],
    leadsGroup?: boolean,
  ): number;
  /**
   * How one child has ended (waitid(2), without blocking), once; its pid is free from then on. -EAGAIN while it runs,
   * -ECHILD if it is no child, or was reaped.
   */
  reap(pid: number): Ended | number;
  /**
   * The pid of a child that has exited and was not reaped (waitid(2) with WNOWAIT): it stays as it is, and the same comes
   * again until someone reaps it. -EAGAIN if no child has exited, -ECHILD without children; -ENOSYS on macOS.
   */
  peekExited(): number;
  /**
   * Makes this process the parent of those that its descendants leave behind, as PID 1 is of all (PR_SET_CHILD_SUBREAPER).
   * A program that replaces this process by {@link execve} stays it; -ENOSYS on macOS.
   */
  becomeSubreaper(): number;
  /**
   * Replaces this process by the program in the file `path` (execve(2)), which keeps its pid, its children, its directory
   * and the descriptors `fds`, each under its number. The others are closed, as each of Node's own is close-on-exec, 0, 1
   * and 2 too. No signal is blocked, each has its default action. Nothing runs afterwards, no "exit" listener either.
   *
   * Returns only if it has failed, and everything is as before then: -ENOENT, -EACCES, -E2BIG, …; -EBADF if one of `fds` is
   * not open, -EPERM in a worker thread, -ENOSYS on macOS.
   *
   * @param words the first is the name by which the program sees itself called
   * @param environment `NAME=value`
   */
  execve(
    path: string,
    words: readonly string[],
    environment: readonly string[],
    fds: readonly number[],
  ): number;
  /**
   * Ends this process (_exit(2)): neither Node nor a library does anything at its end.
   *
   * @param code from 0 to 255
   */
  exitAtOnce(code: number): void;
  /**
   * A descriptor for a process (pidfd_open(2)), which is readable when the process has ended; -ESRCH if it has been
   * reaped, -ENOSYS before Linux 5.3 and on macOS.
   */
  pidfdOpen(pid: number): number;
  /** Sends a signal to that process and no other (pidfd_send_signal(2)); -ESRCH once it has been reaped. */
  pidfdKill(pidfd: number, signal: number): number;
  /** A set of descriptors that is readable when one of them is (epoll); -ENOSYS on macOS. */
  readinessCreate(): number;
  readinessAdd(set: number, fd: number): number;
  readinessRemove(set: number, fd: number): number;
  /** Some of the descriptors that are readable or at their end now; without waiting. */
  readinessTake(set: number): number[] | number;
  /** Watches a descriptor in the event loop (uv_poll). The descriptor must outlive the watcher. */
  Watcher: new (fd: number, callback: (events: number) => void) => Watcher;
  /**
   * Undefined where this process has no OpenSSL 3 whose functions can be found. The constructor copies `key` and `iv`; it throws
   * a RangeError for a wrong length, and an Error if OpenSSL does not have the cipher.
   */
  RecordCipher?: new (
    cipher: "aes-128-gcm" | "aes-256-gcm" | "chacha20-poly1305",
    key: Uint8Array,
    iv: Uint8Array,
    seals: boolean,
  ) => NativeRecordCipher;
}

/** Seals or opens records of TLS 1.3 (RFC 8446, 5.2) with one key; it counts nothing. */
export interface NativeRecordCipher {
  /**
   * Seals `plain` in records of at most `largest` bytes (1 to 16,384) each, one record if it is empty; the first has the number
   * `sequence`. The bytes that it has written to `sealed`: 22 for each record besides the plaintext. -EINVAL if `sealed` is too
   * short, or after `forget()`; -EIO if OpenSSL fails.
   */
  seal(type: number, plain: Uint8Array, largest: number, sequence: number, sealed: Uint8Array): number;
  /**
   * Decrypts the record from `from` to `to` in place, behind its header of 5 bytes; the bytes of its plaintext, with type and
   * padding. -EBADMSG if its tag is wrong: there are other bytes in its place then; -EINVAL if it is too short or too long, or after
   * `forget()`.
   */
  open(bytes: Uint8Array, from: number, to: number, sequence: number): number;
  /** Erases the key, as the collector does later; idempotent. */
  forget(): void;
}

/** `events` are bits of {@link POLL}; an error or hang-up arrives as every requested event. */
export interface Watcher {
  /** Starts the watcher, or changes its events; 0 stops it. */
  watch(events: number): number;
  ref(): void;
  unref(): void;
  /** Stops permanently; idempotent. The callback is not called again. */
  close(): void;
}

type SocketType = "stream" | "dgram";

/** How {@link Native.steer} chooses a member: anew each time, or by the client's IP address. */
export type Steering = "random" | "source";

export interface Received {
  /** Bytes written to the buffer. */
  size: number;
  fds: number[];
  /** The message was longer than the buffer (MSG_TRUNC). */
  truncated: boolean;
  /** Descriptors were lost, because this process had reached its limit (MSG_CTRUNC). */
  fdsLost: boolean;
  /**
   * The pid of the process that sent the message, in this process's PID namespace (SCM_CREDENTIALS). Only a sender with
   * CAP_SYS_ADMIN can name another process. 0 if it is unknown: the message was sent before
   * {@link Native.passCredentials}, or by a process that this namespace does not contain.
   */
  sender: number;
}

export interface SocketDescription {
  family: "inet4" | "inet6" | "unix" | "other";
  type: "stream" | "dgram" | "seqpacket" | "other";
  listening: boolean;
  /** Numeric address, or the path (an abstract one starts with NUL, an unnamed one is empty). */
  address: string;
  /** 0 for Unix sockets. */
  port: number;
  ipv6Only: boolean;
  /** Whether several sockets may have its address (SO_REUSEPORT). */
  reusePort: boolean;
}

/** How a process has ended: `status` is the number of the signal, or the exit code. */
interface Ended {
  bySignal: boolean;
  status: number;
}

interface Credentials {
  pid: number;
  uid: number;
  gid: number;
}

/** Events of `poll` and `Watcher`; the numbers are libuv's. */
export const POLL = { readable: 1, writable: 2, disconnect: 4 } as const;

/** The maximum number of descriptors in one message: SCM_MAX_FD of Linux. */
export const MAX_FDS = 253;

/** The maximum number of members of a group that {@link Native.steer} can choose. */
export const MAX_STEERED = 64;

let loaded: Native | undefined;

/** Loads the addon at its first use, so that importing the package works where it cannot run. */
export function native(): Native {
  return (loaded ??= completing(loadAddon() as Loaded));
}

/** The addon at first: it has the functions that a start and `handover status` need. */
interface Loaded extends Native {
  addRest?(): void;
}

/** Lets the addon get the rest of its functions when one of them is asked for first: most starts need none. */
function completing(addon: Loaded): Native {
  const get = (_: object, name: string | symbol): unknown => {
    Object.setPrototypeOf(addon, Object.prototype);
    addon.addRest!();
    delete addon.addRest;
    return addon[name as keyof Native];
  };
  return Object.setPrototypeOf(addon, new Proxy({}, { get })) as Native;
}

/**
 * Returns the result of a call of the addon that has not failed. `doing` and `on` are for people.
 *
 * @throws {HandoverError} `ERR_DESCRIPTOR`; `cause` is the system's error
 */
export function check<T>(result: T | number, doing: string, on: string): T {
  if (typeof result !== "number" || result >= 0) return result as T;
  const cause = systemError(result, doing, on);
  throw new HandoverError("ERR_DESCRIPTOR", cause.message, { cause });
}

/** The system's error in an error of {@link check}, as the cause of an error that says more; another error as it is. */
export function systemCause(error: unknown): unknown {
  return error instanceof HandoverError && error.code === "ERR_DESCRIPTOR" ? (error.cause ?? error) : error;
}

/**
 * Watches a descriptor, without keeping the event loop alive.
 *
 * @throws {HandoverError} `ERR_DESCRIPTOR`; `cause` is the system's error
 */
export function createWatcher(fd: number, callback: (events: number) => void): Watcher {
  try {
    const watcher = new (native().Watcher)(fd, callback);
    watcher.unref();
    return watcher;
  } catch (cause) {
    throw new HandoverError("ERR_DESCRIPTOR", reasonOf(cause), { cause });
  }
}

/** An error for `-errno` like those of Node, with `code` and `errno`. */
export function systemError(errno: number, doing: string, on: string): NodeJS.ErrnoException {
  const code = builtins.util.getSystemErrorName(errno);
  return Object.assign(new Error(`cannot ${doing} ${on}: ${code}`), { code, errno });
}
