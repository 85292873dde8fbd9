//go:build !unix

package postfixmap

import (
	"io/fs"
	"syscall"
)

// presetMode does nothing: there are no modes here.
func presetMode(syscall.RawConn, fs.FileMode) error { return nil }
