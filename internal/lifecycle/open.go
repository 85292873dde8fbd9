package lifecycle

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"

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

// Listen opens the sockets that systemd passed, then those of the addresses that are
// not among them, unix sockets with the mode. After an error none is open. Errors: what
// systemd passed is unusable, or what postfixmap.Address.Listen returns.
func Listen(ctx context.Context, addresses []postfixmap.Address, mode fs.FileMode) ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets passed by systemd: %w", err)
	}
	var all []net.Listener
	taken := make(map[string]bool)
	for _, l := range passed {
		if l != nil {
			all = append(all, l)
			taken[l.Addr().String()] = true
		}
	}
	for _, a := range addresses {
		if taken[a.Endpoint()] {
			continue
		}
		l, err := a.Listen(ctx, mode)
		if err != nil {
			for _, open := range all {
				// They are of no use any more, whatever closing says.
				_ = open.Close()
			}
			return nil, fmt.Errorf("cannot listen on %s: %w", a, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// Address is a listener's address as Postfix writes it: "inet:127.0.0.1:8461",
// "unix:/run/x".
func Address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return "inet:" + l.Addr().String()
}
