# A notification socket as systemd has one. Prints a line of JSON for every datagram: who has sent it, what it says,
# and the inodes of its descriptors.
import array, json, os, socket, struct, sys

listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
listener.bind(sys.argv[1].replace("@", "\0", 1))
print(json.dumps({"bound": sys.argv[1]}), flush=True)
while True:
    data, parts, _, _ = listener.recvmsg(65536, 65536)
    told = {"text": data.decode(), "inodes": []}
    for level, kind, part in parts:
        if kind == socket.SCM_CREDENTIALS:
            told["pid"] = struct.unpack("iii", part)[0]
        if kind == socket.SCM_RIGHTS:
            fds = array.array("i", part)
            told["inodes"] += [os.fstat(fd).st_ino for fd in fds]
            for fd in fds:
                os.close(fd)
    print(json.dumps(told), flush=True)
