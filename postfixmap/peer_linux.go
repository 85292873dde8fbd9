package postfixmap

import (
	"net"
	"syscall"
)

// peerUser asks the kernel who connected to a unix socket.
func peerUser(nc net.Conn) (uid uint32, ok bool) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			uid, ok = cred.Uid, true
		} else {
			ok = false
		}
	})
	return uid, ok && err == nil
}
