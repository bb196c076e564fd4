#include "memory.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "descriptor.h"

namespace handover {

#ifdef __linux__

// F_SEAL_SEAL as well: seals cannot be removed, but further seals could lock a reader out.
constexpr int kSealed = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

int MemfdCreate(const char* name) { return Result(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)); }

int MemfdSeal(int fd) { return Result(fcntl(fd, F_ADD_SEALS, kSealed)); }

int MemfdSealed(int fd) {
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return -errno;
  return (seals & kSealed) == kSealed ? 1 : 0;
}

#else

int MemfdCreate(const char*) { return -ENOSYS; }
int MemfdSeal(int) { return -ENOSYS; }
int MemfdSealed(int) { return -ENOSYS; }

#endif

}  // namespace handover
