package doctor

import (
	"context"
	"path"
	"strings"

	"tlsverdict/internal/program"
	"tlsverdict/internal/sendmail"
)

// Sendmail is what was found of Sendmail. In the zero value there is none.
type Sendmail struct {
	// Unseen is why it could not be asked.
	Unseen string
	Setup  sendmail.Setup
	// Resolv is what it has its resolvers from.
	Resolv ResolvConf
	// Answer is what came of a question at the address of its map "tls".
	Answer Answer
	// Writable is the first directory of a unix socket's path that others than its owner may
	// write to.
	Writable string
	// CAs is how many certificates its CACertFile holds, NoCAs why they are not known.
	CAs   int
	NoCAs string
	// Bundle is a file of this host that has those of public CAs; empty if none was found.
	Bundle string
}

// lookSendmail asks the Sendmail of a machine.
func lookSendmail(ctx context.Context, m program.Machine, probe Prober) Sendmail {
	setup, err := sendmail.Examine(ctx, m)
	if err != nil {
		return Sendmail{Unseen: err.Error()}
	}
	s := Sendmail{Setup: setup}
	if setup.Version == "" {
		return s
	}
	s.Resolv, _ = systemResolvers(ctx, m, probe)
	s.ask(ctx, m)
	l := postfixLooker{Machine: m}
	for _, b := range Bundles() {
		if n, err := l.certificates(b); err == nil && n > 0 {
			s.Bundle = b
			break
		}
	}
	if file := setup.Options["CACertFile"]; file != "" {
		if s.CAs, err = l.certificates(file); err != nil {
			s.NoCAs = inside(err, m.Root)
		}
	}
	return s
}

// ask asks where the map "tls" does. Sendmail delivers as root, as this process should run.
func (s *Sendmail) ask(ctx context.Context, m program.Machine) {
	address := s.Setup.Address("tls")
	kind, rest, _ := strings.Cut(address, ":")
	switch kind {
	case "":
	case "inet", "inet6":
		port, host, _ := strings.Cut(rest, "@")
		if kind == "inet6" {
			host = "[" + host + "]"
		}
		s.Answer = askTCP(ctx, host+":"+port)
	case "local", "unix":
		s.Writable = writable(m, path.Dir(rest))
		s.Answer = askUnix(ctx, place{user: User{Name: "root", Groups: []uint32{0}}, dir: m.At("/")}, rest)
	default:
		s.Answer = Answer{Problem: "what kind of address that is is not known here", Unasked: true}
	}
}

// writable returns the first directory on the way to dir, and dir itself, that its group or
// others may write to; "" where there is none.
func writable(m program.Machine, dir string) string {
	for _, at := range above(dir) {
		if info, err := m.Stat(at); err == nil && info.Mode().Perm()&0o022 != 0 {
			return at
		}
	}
	return ""
}

// above are a directory and those that it is in, the topmost first.
func above(dir string) []string {
	if dir == "/" || dir == "." {
		return []string{"/"}
	}
	return append(above(path.Dir(dir)), dir)
}
