package postfixmap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var (
	// ErrAddress says that a text is not an address as Postfix writes them.
	ErrAddress = errors.New("postfixmap: not an address")
	// ErrInUse says that somebody answers on the unix socket that was to be created, or that
	// something else than a socket has its name. Nothing was removed.
	ErrInUse = errors.New("postfixmap: address in use")
)

const (
	// maxUnixPath is what fits sockaddr_un on Linux with its final NUL, in bytes.
	maxUnixPath = 107
	// probeTimeout bounds the question whether somebody listens on a socket file; on a local
	// socket the answer is there at once.
	probeTimeout = time.Second
)

// An Address is where a socketmap server listens, as a client or a server names it:
// inet:HOST:PORT or unix:/PATH, the forms of Postfix (there, the map's name follows). The zero
// Address is none, and neither dials nor listens. Addresses can be compared with ==.
type Address struct{ network, addr string }

// ParseAddress reads inet:HOST:PORT, with an IPv6 host in brackets, or unix:/PATH, absolute and
// of 107 bytes at most. Port 0 lets Listen choose. An empty host is refused: every address of the
// machine is inet:0.0.0.0:PORT or inet:[::]:PORT, to be written in full because the protocol has
// no authentication. The only error is ErrAddress.
func ParseAddress(s string) (Address, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "inet":
		return parseInet(s, rest)
	case "unix":
		return parseUnix(s, rest)
	}
	return Address{}, addressError(s, "write inet:HOST:PORT or unix:/PATH")
}

func parseInet(s, rest string) (Address, error) {
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return Address{}, addressError(s, "write inet:HOST:PORT, an IPv6 address in brackets")
	}
	if host == "" {
		return Address{}, addressError(s, "no host: write inet:127.0.0.1:"+port+", or inet:0.0.0.0:"+port+" for every address")
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
		return Address{}, addressError(s, "the host has characters that no host has")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return Address{}, addressError(s, "the port must be a number from 0 to 65535")
	}
	return Address{"tcp", net.JoinHostPort(host, port)}, nil
}

func parseUnix(s, path string) (Address, error) {
	switch {
	case !filepath.IsAbs(path):
		return Address{}, addressError(s, "the path must be absolute: unix:/PATH")
	case strings.IndexByte(path, 0) >= 0 || strings.HasSuffix(path, "/"):
		return Address{}, addressError(s, "the path does not name a file")
	case len(path) > maxUnixPath:
		return Address{}, addressError(s, fmt.Sprintf("the path has %d bytes, sockets take %d", len(path), maxUnixPath))
	}
	return Address{"unix", path}, nil
}

func addressError(s, why string) error { return fmt.Errorf("%w: %q: %s", ErrAddress, s, why) }

// String returns the form that ParseAddress reads, and "none" for the zero Address.
func (a Address) String() string {
	switch a.network {
	case "tcp":
		return "inet:" + a.addr
	case "unix":
		return "unix:" + a.addr
	}
	return "none"
}

// Network returns "tcp" or "unix", as package net wants it, or "" for the zero Address.
func (a Address) Network() string { return a.network }

// Endpoint returns HOST:PORT or the path, as package net wants it.
func (a Address) Endpoint() string { return a.addr }

// Dial connects.
func (a Address) Dial(ctx context.Context) (net.Conn, error) {
	if a == (Address{}) {
		return nil, fmt.Errorf("%w: none given", ErrAddress)
	}
	var d net.Dialer
	return d.DialContext(ctx, a.network, a.addr)
}

// Listen listens. A unix socket gets the permissions mode (0 is 0600) from the moment it exists;
// who may write to it may ask. A socket file on which nobody listens any more is replaced, as a
// server leaves one when it is killed; ErrInUse is returned when somebody does, or when the file
// is no socket. Two servers that start at the same instant on the same leftover are not kept
// apart: that is the service manager's work.
//
// mode means nothing for inet.
func (a Address) Listen(ctx context.Context, mode fs.FileMode) (net.Listener, error) {
	if a == (Address{}) {
		return nil, fmt.Errorf("%w: none given", ErrAddress)
	}
	// No probes: a connection on which nobody asks is closed by the server's IdleTimeout, and to
	// set them up is four system calls a connection.
	lc := net.ListenConfig{KeepAlive: -1}
	if a.network != "unix" {
		return lc.Listen(ctx, a.network, a.addr)
	}
	if mode.Perm() == 0 {
		mode = 0o600
	}
	if err := removeStale(ctx, a.addr); err != nil {
		return nil, err
	}
	lc.Control = func(_, _ string, raw syscall.RawConn) error { return presetMode(raw, mode.Perm()) }
	l, err := lc.Listen(ctx, "unix", a.addr)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(a.addr, mode.Perm()); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes the socket file at path if nobody listens on it.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%w: %s is not a socket: move it away", ErrInUse, path)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
	}
	// Anything but this answer, a full backlog or a refused permission among them, means that
	// somebody may be there.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: somebody listens on %s", ErrInUse, path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
