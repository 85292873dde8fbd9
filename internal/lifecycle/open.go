package lifecycle

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"

	"tlsverdict/postfixmap"
)

// Format is how log records are written.
type Format uint8

const (
	// Text: key=value.
	Text Format = iota
	// JSON: an object a line.
	JSON
)

// NewLogger returns a logger that writes records from level on.
func NewLogger(w io.Writer, f Format, level slog.Leveler) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	switch f {
	case Text:
		return slog.New(slog.NewTextHandler(w, opt))
	case JSON:
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	panic(fmt.Sprintf("lifecycle: log format %d", f))
}

// Sockets are those that systemd passed.
type Sockets struct {
	named  map[string][]net.Listener
	others []net.Listener
}

// Passed takes the sockets that systemd passed, once: a second call has none. Those with
// one of the names (FileDescriptorName=) are for Named, all others for Listen.
func Passed(names ...string) Sockets {
	s := Sockets{named: make(map[string][]net.Listener)}
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		if err != nil {
			// No socket that listens: it is for somebody else.
			continue
		}
		// The listener has a descriptor of its own.
		_ = f.Close()
		if slices.Contains(names, f.Name()) {
			s.named[f.Name()] = append(s.named[f.Name()], l)
		} else {
			s.others = append(s.others, l)
		}
	}
	return s
}

// Named returns those with a name.
func (s Sockets) Named(name string) []net.Listener { return s.named[name] }

// Listen is Sockets.Listen with whatever systemd passed.
func Listen(ctx context.Context, addresses []postfixmap.Address, mode fs.FileMode) ([]net.Listener, error) {
	return Passed().Listen(ctx, addresses, mode)
}

// Listen returns the sockets that systemd passed without a name of their own, and opens
// those of the addresses that are not among them, unix sockets with the mode. After an
// error none of these is open. Errors: what postfixmap.Address.Listen returns.
func (s Sockets) Listen(ctx context.Context, addresses []postfixmap.Address, mode fs.FileMode) ([]net.Listener, error) {
	all := s.others
	taken := make(map[string]bool)
	for _, l := range all {
		taken[l.Addr().String()] = true
	}
	for _, a := range addresses {
		if taken[a.Endpoint()] {
			continue
		}
		l, err := a.Listen(ctx, mode)
		if err != nil {
			Close(all)
			return nil, fmt.Errorf("cannot listen on %s: %w", a, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// Close closes listeners that are of no use any more, whatever closing says.
func Close(all []net.Listener) {
	for _, l := range all {
		_ = l.Close()
	}
}

// Address is a listener's address as Postfix writes it: "inet:127.0.0.1:8461",
// "unix:/run/x".
func Address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return "inet:" + l.Addr().String()
}
