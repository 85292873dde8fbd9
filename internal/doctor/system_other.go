//go:build !linux || 386 || arm

package doctor

import (
	"errors"
	"net"
)

var errElsewhere = errors.New("doctor: not on this system")

// mayNotBecome is why this process may not ask as another user: elsewhere a thread has no
// user of its own, or its system calls are others.
func mayNotBecome() string { return "there is no way on this system" }

func dialFrom(place, string) (net.Conn, error) { return nil, errElsewhere }

// Peer returns the user and group of who listens at a unix socket.
func Peer(*net.UnixConn) (User, error) { return User{}, errElsewhere }

func room(string) (free int64, readOnly bool, err error) { return 0, false, errElsewhere }
