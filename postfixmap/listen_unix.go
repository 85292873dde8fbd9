//go:build unix

package postfixmap

import (
	"io/fs"
	"syscall"
)

// presetMode sets the mode that bind will give the socket file, so that there is no moment in
// which the file exists with wider permissions. Where a system ignores it, the chmod after bind
// still comes.
func presetMode(raw syscall.RawConn, mode fs.FileMode) error {
	return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
}
