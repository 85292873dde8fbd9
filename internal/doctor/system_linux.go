//go:build !386 && !arm

package doctor

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// mayNotBecome is why this process may not ask as another user; "" where it may.
func mayNotBecome() string {
	if os.Geteuid() != 0 {
		return "it takes root"
	}
	return ""
}

// dialFrom connects to a unix socket as a user, with a directory as "/". It is done on a
// thread of its own, whose directory and user are changed alone (the system calls, unlike
// the functions of package syscall, change one thread's), and which ends with the goroutine
// that is locked to it.
func dialFrom(from place, file string) (net.Conn, error) {
	type dialed struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialed)
	go func() {
		runtime.LockOSThread() // and never unlocked: nobody else gets this thread
		conn, err := dialHere(from, file)
		done <- dialed{conn, err}
	}()
	d := <-done
	return d.conn, d.err
}

func dialHere(from place, file string) (net.Conn, error) {
	if err := become(from); err != nil {
		return nil, fmt.Errorf("doctor: as the user %s in %s: %w", from.user.Name, from.dir, err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	// It does not block: a listener whose queue is full says so at once.
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: file}); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: err}
	}
	return net.FileConn(f)
}

// become makes this thread, and no other, a user's in a directory.
func become(from place) error {
	if err := syscall.Unshare(syscall.CLONE_FS); err != nil {
		return err
	}
	if err := syscall.Chroot(from.dir); err != nil {
		return err
	}
	if err := syscall.Chdir("/"); err != nil {
		return err
	}
	groups := from.user.Groups
	if len(groups) == 0 {
		return syscall.EINVAL
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return errno
	}
	group, user := uintptr(groups[0]), uintptr(from.user.ID)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESGID, group, group, group); errno != 0 {
		return errno
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, user, user, user); errno != 0 {
		return errno
	}
	return nil
}

// Peer returns the user and group of who listens at a unix socket.
func Peer(conn *net.UnixConn) (User, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return User{}, err
	}
	var (
		cred *syscall.Ucred
		fail error
	)
	if err := raw.Control(func(fd uintptr) {
		cred, fail = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return User{}, err
	}
	if fail != nil {
		return User{}, fail
	}
	return User{ID: cred.Uid, Groups: []uint32{cred.Gid}}, nil
}

// room returns what a file system has left for users, in bytes, and whether it is read-only.
func room(dir string) (free int64, readOnly bool, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false, err
	}
	const rdonly = 1 // ST_RDONLY of statfs(2)
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Flags)&rdonly != 0, nil
}
