package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// ErrUnsupported: this kernel has no Landlock, or it is not switched on, or a container
// hides it. Files and ports are as open as the user's rights leave them.
var ErrUnsupported = errors.New("confine: the kernel has no Landlock")

// Mode says whether Landlock is used. The zero value is the strictest.
type Mode uint8

const (
	// On: without it there is an error.
	On Mode = iota
	// Auto: where the kernel has it.
	Auto
	// Off: not at all.
	Off
)

// String returns the word in the configuration.
func (m Mode) String() string {
	switch m {
	case On:
		return "on"
	case Auto:
		return "auto"
	case Off:
		return "off"
	}
	return fmt.Sprintf("landlock(%d)", uint8(m))
}

// Needs is what a process does after its start. The zero value is nothing. Paths are
// absolute; what is not there is passed over.
type Needs struct {
	Landlock Mode
	// Read are files and directories, with all that is below them.
	Read []string
	// List are directories of which, and of those below, only the names may be read.
	List []string
	// Run are the same as Read, and what is in them may be run.
	Run []string
	// Write are directories in which files are made, written, renamed and removed.
	Write []string
	// Remove are directories in which files may be removed: sockets, at the end.
	Remove []string
	// Connect are TCP ports to connect to, at any address.
	Connect []uint16
	// AnyPort leaves all ports to connect to: where servers tell each other's.
	AnyPort bool
	// Source has connections begin at a chosen address. No port can be listened on in
	// any case but one that the kernel picks.
	Source bool
	// Abstract leaves abstract unix sockets within reach (unix(7)).
	Abstract bool
}

// Missing returns what b needs and a does not have, as words for people: a file or a
// directory, or "TCP port 5353". What a has by the directory above is not missing.
func (a Needs) Missing(b Needs) []string {
	var out []string
	for _, path := range slices.Concat(b.Read, b.Run, b.Write) {
		if !slices.ContainsFunc(slices.Concat(a.Read, a.Run, a.Write), func(dir string) bool { return below(path, dir) }) {
			out = append(out, path)
		}
	}
	for _, port := range b.Connect {
		if !slices.Contains(a.Connect, port) && !a.AnyPort {
			out = append(out, fmt.Sprintf("TCP port %d", port))
		}
	}
	return out
}

// below reports whether a path is a directory or in it.
func below(path, dir string) bool {
	return path == dir || len(path) > len(dir) && path[:len(dir)] == dir && (path[len(dir)] == '/' || dir[len(dir)-1] == '/')
}

// Held is what a sealed process is held to.
type Held struct {
	// ABI is that of the kernel's Landlock; 0 where nothing is held by it.
	ABI int
	// Ports reports whether TCP is held to the ports.
	Ports bool
}

const (
	// portsABI is the first ABI that knows TCP ports.
	portsABI = 4

	read    landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSReadDir
	execute landlock.AccessFSSet = ll.AccessFSExecute
	write   landlock.AccessFSSet = ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSRemoveFile
	// devNull may be written, and nothing more.
	devNull = "/dev/null"
)

// Self is this process.
type Self struct{}

// Seal takes from the process all that it does not need. Errors: what the kernel
// refused, and ErrUnsupported where Landlock is a must and is not there. After an error
// the process may be sealed in part.
func (Self) Seal(n Needs) (Held, error) {
	if err := unprivileged(); err != nil {
		return Held{}, err
	}
	if n.Landlock == Off {
		return Held{}, nil
	}
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		if n.Landlock == On {
			return Held{}, ErrUnsupported
		}
		return Held{}, nil
	}
	// The newest whose rights were tried here: what a later one restricts may be needed.
	config := landlock.V7
	if n.AnyPort {
		config.HandledAccessNet &^= ll.AccessNetConnectTCP
		n.Connect = nil
	}
	if n.Abstract {
		config.Scoped &^= ll.ScopeAbstractUnixSocket
	}
	if err := config.BestEffort().Restrict(rules(n)...); err != nil {
		return Held{}, fmt.Errorf("confine: %w", err)
	}
	return Held{ABI: abi, Ports: abi >= portsABI && !n.AnyPort}, nil
}

// rules writes needs as the kernel wants them: a file has no rights of directories.
func rules(n Needs) []landlock.Rule {
	var out []landlock.Rule
	grant := func(rights landlock.AccessFSSet, paths []string) {
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				continue
			}
			if !info.IsDir() {
				rights &= execute | ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
			}
			out = append(out, landlock.PathAccess(rights, path).IgnoreIfMissing())
		}
	}
	grant(read, n.Read)
	grant(ll.AccessFSReadDir, n.List)
	grant(read|execute, n.Run)
	grant(read|write, n.Write)
	grant(ll.AccessFSRemoveFile, n.Remove)
	grant(read|ll.AccessFSWriteFile, []string{devNull})
	for _, port := range n.Connect {
		out = append(out, landlock.ConnectTCP(port))
	}
	if n.Source {
		out = append(out, landlock.BindTCP(0))
	}
	return out
}
