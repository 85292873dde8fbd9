package siege

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A sluggard makes the disk slow for one process: the kernel hands each of its
// fdatasync and fsync calls over (seccomp_unotify(2)), and lets it go on after a while.
type sluggard struct {
	delay   time.Duration
	delayed atomic.Int64
}

// What linux/seccomp.h and linux/filter.h say.
const (
	filterLoad   = 0x20 // BPF_LD | BPF_W | BPF_ABS
	filterEqual  = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	filterReturn = 0x06 // BPF_RET | BPF_K

	verdictAllow  = 0x7fff0000
	verdictNotify = 0x7fc00000

	setModeFilter   = 1
	flagNewListener = 1 << 3

	notifyReceive = 0xc0502100
	notifySend    = 0xc0182101
	letItGoOn     = 1
)

// notification is struct seccomp_notif, response struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// start starts a process whose syncs are slow. The filter is one thread's, which is
// given up afterwards; the process inherits it.
func (s *sluggard) start(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		fd, err := s.filter()
		if err == nil {
			if err = cmd.Start(); err == nil {
				go s.watch(fd)
			}
		}
		started <- err
	}()
	return <-started
}

func (s *sluggard) filter() (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	program := []unix.SockFilter{
		{Code: filterLoad, K: 0}, // the number of the call
		{Code: filterEqual, Jt: 1, K: unix.SYS_FDATASYNC},
		{Code: filterEqual, Jf: 1, K: unix.SYS_FSYNC},
		{Code: filterReturn, K: verdictNotify},
		{Code: filterReturn, K: verdictAllow},
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, flagNewListener, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, os.NewSyscallError("seccomp", errno)
	}
	return int(fd), nil
}

// watch lets each call go on after the delay, until the process has ended.
func (s *sluggard) watch(fd int) {
	defer unix.Close(fd)
	for {
		var n notification
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifyReceive, uintptr(unsafe.Pointer(&n)))
		if errors.Is(errno, syscall.EINTR) || errors.Is(errno, syscall.ENOENT) && n.id != 0 {
			continue
		}
		if errno != 0 {
			return
		}
		s.delayed.Add(1)
		time.AfterFunc(s.delay, func() {
			r := response{id: n.id, flags: letItGoOn}
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifySend, uintptr(unsafe.Pointer(&r)))
		})
	}
}
