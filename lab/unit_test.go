package lab

import (
	"context"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestUnit runs each postconf as policyd's systemd unit lets it: with sockets of the
// unit's address families only. To see that such a rule does anything here, it is run
// without AF_NETLINK as well, and must fail.
func TestUnit(t *testing.T) {
	if os.Getenv("TLSVERDICT_LAB") != "1" {
		t.Log("real postconf is not tested here: TLSVERDICT_LAB=1 is not set. make test sets it; it needs root, on Debian")
		return
	}
	families := unitFamilies(t)
	roots, err := rootsOf(t.Context(), "postfix-3.7", "postfix-3.10")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range roots {
		// It only reads, so that the copy that is kept will do.
		name, root := b.name, b.root
		if out, err := runRestricted(t.Context(), families, root); err != nil || !strings.HasPrefix(out, "mail_version = 3.") {
			t.Errorf("%s: postconf under the unit's address families: %q, %v", name, out, err)
		}
		fewer := slices.DeleteFunc(slices.Clone(families), func(f uint32) bool { return f == unix.AF_NETLINK })
		if out, err := runRestricted(t.Context(), fewer, root); err == nil {
			t.Errorf("%s: postconf without AF_NETLINK: %q, want failure", name, out)
		}
	}
}

// unitFamilies are the address families that the unit allows.
func unitFamilies(t *testing.T) []uint32 {
	t.Helper()
	const unit = "../contrib/systemd/tlsverdict-policyd.service"
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]uint32{"AF_UNIX": unix.AF_UNIX, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6, "AF_NETLINK": unix.AF_NETLINK}
	var families []uint32
	for _, m := range regexp.MustCompile(`(?m)^RestrictAddressFamilies=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		for _, name := range strings.Fields(m[1]) {
			family, ok := known[name]
			if !ok {
				t.Fatalf("%s: %s: this test does not know it", unit, name)
			}
			families = append(families, family)
		}
	}
	return families
}

// runRestricted runs a root's postconf from a thread that can make sockets of these
// families only. The thread ends with it: nothing takes such a rule back.
func runRestricted(ctx context.Context, families []uint32, root string) (out string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = restrict(families); err == nil {
			out, err = command(ctx, "chroot", root, "/usr/sbin/postconf", "-x", "mail_version")
		}
	}()
	<-done
	return out, err
}

// restrict has the kernel refuse this thread, and all that it starts, sockets of
// other families, as systemd does for RestrictAddressFamilies= (seccomp(2)). It reads
// the call and the low half of its first argument, where a little-endian machine has
// them.
func restrict(families []uint32) error {
	const call, argument = 0, 16 // offsets in struct seccomp_data
	const load, equal, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	n := len(families)
	filter := []unix.SockFilter{{Code: load, K: call}, {Code: equal, K: unix.SYS_SOCKET, Jf: uint8(n + 2)}, {Code: load, K: argument}}
	for i, f := range families {
		filter = append(filter, unix.SockFilter{Code: equal, K: f, Jt: uint8(n - i)})
	}
	filter = append(filter,
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ALLOW})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}
