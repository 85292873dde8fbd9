package confine

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

var (
	// ErrUser: there is no such user, or it is root, to whom nobody need change.
	ErrUser = errors.New("confine: no user to become")
	// ErrNotRoot: only root can become another user.
	ErrNotRoot = errors.New("confine: only root can become another user")
)

// dirMode is that of directories that Give makes: what is in them is nobody else's.
const dirMode = 0o700

// account is who a process runs as.
type account struct {
	uid, gid int
	groups   []int
}

// lookup finds a user by name.
func lookup(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("%w: %w", ErrUser, err)
	}
	var a account
	a.uid, err = strconv.Atoi(u.Uid)
	if err == nil {
		a.gid, err = strconv.Atoi(u.Gid)
	}
	if err != nil || a.uid == 0 {
		return account{}, fmt.Errorf("%w: %s has the number %s", ErrUser, name, u.Uid)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("%w: groups: %w", ErrUser, err)
	}
	for _, id := range ids {
		// Those that are no numbers are none of the kernel's.
		if n, err := strconv.Atoi(id); err == nil {
			a.groups = append(a.groups, n)
		}
	}
	return a, nil
}

// Root reports whether the process is root.
func (Self) Root() bool { return os.Geteuid() == 0 }

// Give makes a directory that belongs to a user, where there is none. One that exists
// is left as it is: it may be for others as well.
func (Self) Give(dir, name string) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	a, err := lookup(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirMode); err != nil {
		return err
	}
	return os.Lchown(dir, a.uid, a.gid)
}

// Become changes to a user, for good: groups, group, user, and the capabilities go. A
// process that is that user already is left as it is. Errors: ErrUser, ErrNotRoot, or
// what the kernel refused.
func (Self) Become(name string) error {
	a, err := lookup(name)
	if err != nil {
		return err
	}
	if os.Geteuid() == a.uid && os.Getuid() == a.uid {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: %s", ErrNotRoot, name)
	}
	if err := emptyBounding(); err != nil {
		return err
	}
	// In this order: each takes the right to do the one before.
	if err := syscall.Setgroups(a.groups); err != nil {
		return fmt.Errorf("confine: setgroups: %w", err)
	}
	if err := syscall.Setresgid(a.gid, a.gid, a.gid); err != nil {
		return fmt.Errorf("confine: setgid: %w", err)
	}
	if err := syscall.Setresuid(a.uid, a.uid, a.uid); err != nil {
		return fmt.Errorf("confine: setuid: %w", err)
	}
	if syscall.Setresuid(0, 0, 0) == nil {
		return fmt.Errorf("confine: root can be had again after setuid to %s", name)
	}
	return nil
}

// unprivileged sets no_new_privs, empties the capabilities and makes the process not
// dumpable.
func unprivileged() error {
	if err := allThreads("no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return err
	}
	if err := emptyBounding(); err != nil {
		return err
	}
	if err := allThreads("ambient capabilities", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil {
		return err
	}
	if err := emptyCapabilities(); err != nil {
		return err
	}
	// One for all threads, and undone by a change of user: so it comes last.
	return allThreads("dumpable", unix.PR_SET_DUMPABLE, 0)
}

// allThreads is prctl(2) for each thread.
func allThreads(what string, option, arg uintptr) error {
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, option, arg, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("confine: %s: %w", what, errno)
	}
	return nil
}

// emptyBounding takes all capabilities from what a program that is run may gain. Only who
// has CAP_SETPCAP can, and who has not had it gains none with no_new_privs either.
func emptyBounding() error {
	for c := range uintptr(64) {
		_, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0)
		switch errno {
		case 0:
		case unix.EINVAL: // the last one was before
			return nil
		case unix.EPERM:
			return nil
		default:
			return fmt.Errorf("confine: bounding set: %w", errno)
		}
	}
	return nil
}

// sets are the capabilities of a thread, as the kernel passes them.
type sets struct {
	header unix.CapUserHeader
	data   [2]unix.CapUserData
}

// emptyCapabilities empties the sets of effective, permitted and inheritable ones. Where
// they are empty the call is not made: a service manager's filter may forbid it
// (SystemCallFilter=~@privileged).
func emptyCapabilities() error {
	now := sets{header: unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}}
	if err := unix.Capget(&now.header, &now.data[0]); err != nil {
		return fmt.Errorf("confine: capabilities: %w", err)
	}
	if now.data == [2]unix.CapUserData{} {
		return nil
	}
	// Not Go's memory: its address must hold while other threads make the call.
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("confine: capabilities: %w", err)
	}
	defer func() { _ = unix.Munmap(page) }()
	s := (*sets)(unsafe.Pointer(&page[0]))
	s.header.Version = unix.LINUX_CAPABILITY_VERSION_3
	if _, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&s.header)), uintptr(unsafe.Pointer(&s.data)), 0); errno != 0 {
		return fmt.Errorf("confine: capabilities: %w", errno)
	}
	return nil
}
