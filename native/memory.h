// Memory files that can be sealed, for state too large for a message. -ENOSYS where there are none.
#pragma once

namespace handover {

int MemfdCreate(const char* name);
int MemfdSeal(int fd);
// 1 if nobody can change the file any more, else 0.
int MemfdSealed(int fd);

}  // namespace handover
