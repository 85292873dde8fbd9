// Package confine takes from a process what it needs no longer once it has started:
// privileges, files and ports. Who breaks into it later has what is left, and no more.
//
//	var self confine.Self
//	if err := self.Become("tlsverdict"); err != nil { // listeners are open already
//		return err
//	}
//	held, err := self.Seal(confine.Needs{
//		Landlock: confine.Auto,
//		Read:     []string{"/etc/resolv.conf", "/usr"},
//		Write:    []string{"/var/lib/tlsverdict"},
//		Connect:  []uint16{53, 443},
//	})
//
// There is no way back from either call, for this process or for the programs that it
// runs. Both hold for every thread.
//
// # Become
//
// Become gives up root: groups, group and user become those of a name in /etc/passwd,
// and the kernel takes all capabilities with them. Directories that the user shall write
// are made before, by Give; those that exist belong to whom they belong.
//
// # Seal
//
// Seal always sets no_new_privs, so that no program gives privileges back; empties every
// set of capabilities, for a process that stays root as well; and makes the process not
// dumpable, so that another process of the same user neither reads its memory nor finds
// a core file. Root without capabilities is still the owner of root's files.
//
// It then has Landlock (landlock(7)) refuse all files but those of Read and Write, and
// all TCP ports but those of Connect. Since rules cannot be taken back, a file that is
// wanted later must be named at the start: what is named by its directory may be
// replaced meanwhile, and what is named by itself may only be written in place.
//
// # What depends on the kernel
//
//	5.13  ABI 1  files
//	6.7   ABI 4  TCP ports
//	6.12  ABI 6  signals, and abstract sockets, of other processes
//
// The kernel does what it can, and Held says what. Without Landlock Auto goes on, On is
// ErrUnsupported.
//
// # What it does not do
//
// UDP is not limited, nor are unix sockets with a name, nor Multipath TCP, which the
// kernel does not hold to the ports. It filters no system calls: systemd does
// (SystemCallFilter=). Files that are open already stay open.
package confine
