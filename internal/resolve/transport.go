package resolve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

var (
	errSilent      = errors.New("no answer")
	errUnreachable = errors.New("unreachable")
	errMalformed   = errors.New("malformed reply")
	errBusy        = errors.New("too many questions are on their way")
	errBudget      = errors.New("too many questions for one destination")
)

// maxStray bounds the packets that are read and ignored while the right one is
// waited for, so that a flood costs a try and not a processor.
const maxStray = 1000

// exchange sends a query to one server over UDP, and again over TCP when the
// reply is truncated, within one time-out. The packet it returns answers the query;
// the rest of it is unread.
func (r *Resolver) exchange(ctx context.Context, srv *server, query []byte, on errand) ([]byte, error) {
	if err := r.gate.enter(ctx, on.share); err != nil {
		return nil, err
	}
	defer r.gate.leave(on.share)
	// The time-out is the server's: the wait for a slot is not held against it.
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if !on.spend() {
		return nil, errBudget
	}
	sent := time.Now()
	packet, err := r.overUDP(ctx, srv, query)
	if err == nil {
		r.answered(srv, sent)
	}
	if err != nil || !truncated(packet) {
		return packet, err
	}
	if !on.spend() {
		return nil, errBudget
	}
	if packet, err = r.overTCP(ctx, srv, query); err != nil {
		return nil, fmt.Errorf("%w over TCP after a truncated reply", err)
	}
	return packet, nil
}

// overUDP uses a socket of its own, so that every query has a fresh random port
// (RFC 5452 §9.2), and passes over what does not answer the query: whoever
// guesses wrong must not be able to make the lookup fail.
func (r *Resolver) overUDP(ctx context.Context, srv *server, query []byte) ([]byte, error) {
	conn, release, err := r.connect(ctx, "udp", srv)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err = conn.Write(query); err != nil {
		return nil, classify(err)
	}
	room := r.packets.Get().(*[packetRoom]byte)
	defer r.packets.Put(room)
	for range maxStray {
		n, err := conn.Read(room[:])
		if err != nil {
			return nil, classify(err)
		}
		if answers(query, room[:n]) {
			return append([]byte(nil), room[:n]...), nil
		}
	}
	return nil, fmt.Errorf("%w among %d packets that answer something else", errSilent, maxStray)
}

// overTCP asks on a new connection. There a reply to something else is an error,
// since only the server can have sent it.
func (r *Resolver) overTCP(ctx context.Context, srv *server, query []byte) ([]byte, error) {
	conn, release, err := r.connect(ctx, "tcp", srv)
	if err != nil {
		return nil, err
	}
	defer release()
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	if _, err = conn.Write(append(framed, query...)); err != nil {
		return nil, classify(err)
	}
	var size [2]byte
	if _, err = io.ReadFull(conn, size[:]); err != nil {
		return nil, classify(err)
	}
	packet := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err = io.ReadFull(conn, packet); err != nil {
		return nil, classify(err)
	}
	if !answers(query, packet) {
		return nil, fmt.Errorf("%w: to another question", errMalformed)
	}
	if packet[2]&bitTC != 0 {
		return nil, fmt.Errorf("%w: truncated", errMalformed)
	}
	return packet, nil
}

// connect dials; release closes the connection. Reads and writes end with the
// context and not by a deadline of their own, which could be a moment earlier: that a
// try ends because its asker's time is over must show in the asker's context.
func (r *Resolver) connect(ctx context.Context, network string, srv *server) (net.Conn, func(), error) {
	conn, err := r.dial(ctx, network, srv.name)
	if err != nil {
		return nil, nil, classify(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); _ = conn.Close() }, nil
}

// classify tells a server that keeps silent from one that cannot be reached.
// The address is taken off, since every failure names the server already.
func classify(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.Canceled) {
		return errSilent
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("%w: %w", errUnreachable, err)
}
