// Memory files that can be sealed, for state that is too large for a message. -ENOSYS on systems without them.
#pragma once

namespace handover {

int MemfdCreate(const char* name);
int MemfdSeal(int fd);
// 1 if the file is sealed against every change, else 0.
int MemfdSealed(int fd);

}  // namespace handover
